"""The loss on held-out rows, of the base alone and with the adapter, at the precision both are served in."""

from collections.abc import Sequence

import torch

from adaptory.core.prompting import RenderedRow
from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.packing import count_learned, pack_rows


def mean_loss(
    decoder: Decoder, rows: Sequence[RenderedRow], *, micro_batch_rows: int, device: torch.device, meter: Meter
) -> float:
    """Return the mean loss over the learned tokens of the rows, in nats."""
    total = 0.0
    for begin in range(0, len(rows), micro_batch_rows):
        pack = pack_rows(rows[begin : begin + micro_batch_rows], device)
        total += decoder.sum_losses(pack)
        meter.count(num_rows=pack.num_rows, num_tokens=pack.num_row_tokens)
    return total / count_learned(rows)
