"""The loss on held-out rows, of the base alone and with the adapter, at the precision both are served in."""

from collections.abc import Sequence

import torch

from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.packing import count_learned, pack_rows
from trainer_svc.worker.train import MicroBatch


def mean_loss(decoder: Decoder, micro_batches: Sequence[MicroBatch], device: torch.device, meter: Meter) -> float:
    """Return the mean loss over the learned tokens of the rows, in nats."""
    total = 0.0
    for rows in micro_batches:
        pack = pack_rows(rows, device)
        total += decoder.sum_losses(pack)
        meter.count(num_rows=pack.num_rows, num_tokens=pack.num_row_tokens)
    return total / sum(map(count_learned, micro_batches))
