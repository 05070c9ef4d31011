"""The loss on held-out rows, of the base alone and with the adapter, at the precision both are served in."""

from collections.abc import Sequence

from adaptory.core.prompting import RenderedRow
from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.packing import count_learned
from trainer_svc.worker.rig import Rig, cut_rows


def judge(rig: Rig, rows: Sequence[RenderedRow], meter: Meter) -> tuple[float, float]:
    """Return the mean loss over the rows' learned tokens, in nats, of the base and of the adapter.

    Frozen values and adapter copies are those that are served, so this is the loss a tenant gets.
    """
    rig.hold_served_base()
    base_loss, adapter_loss = (_mean_loss(model, rig, rows, meter) for model in (rig.decode_bare(), rig.decode()))
    return base_loss, adapter_loss


def _mean_loss(decoder: Decoder, rig: Rig, rows: Sequence[RenderedRow], meter: Meter) -> float:
    total = 0.0
    for micro_batch in cut_rows(rows, rig.techniques.micro_batch_rows):
        total += decoder.sum_losses(rig.pack(micro_batch)).item()
        meter.beat()
    return total / count_learned(rows)
