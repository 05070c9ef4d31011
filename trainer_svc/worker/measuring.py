"""The mean loss of a model on rows it is not trained on."""

from collections.abc import Callable, Sequence

from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.packing import count_learned
from trainer_svc.worker.rig import MicroBatch, Rig


def measure_loss(rig: Rig, decoder: Decoder, packs: Sequence[MicroBatch], beat: Callable[[], None]) -> float:
    """Return the mean loss over the learned tokens of all packs, in nats; beats after each of them."""
    total = 0.0
    for rows in packs:
        total += decoder.sum_losses(rig.pack(rows)).item()
        beat()
    return total / sum(map(count_learned, packs))
