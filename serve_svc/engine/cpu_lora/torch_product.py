"""Adapters with PyTorch's own matrix products, where no compiler has built the kernel."""

import numpy as np
import torch

from serve_svc.engine.cpu_lora.batch import Batch, Indices
from serve_svc.engine.cpu_lora.product import Factors, LayerProduct

# From so many tokens of one adapter on, a matrix product of their own is cheaper than a place in the padded batch.
_LONG_RUN = 8


class TorchProduct:
    """A Product that reads vLLM's tensors as they are."""

    name = "torch"

    def open_layer(self, factors: Factors) -> LayerProduct:
        """Return the layer's product."""
        return _TorchLayer(factors)


class _TorchLayer:
    def __init__(self, factors: Factors) -> None:
        self._factors = factors

    def add(self, batch: Batch, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the deltas: long runs one by one, what remains as one batch of products.

        Adapters meet in no product, so that one with NaN poisons nobody else's tokens.
        """
        groups = batch.groups()
        short = [(slot, rows) for slot, rows in groups if len(rows) < _LONG_RUN and len(groups) > 1]
        for slot, rows in groups:
            if len(rows) >= _LONG_RUN or not short:
                self._add_run(slot, rows, x, y)
        if short:
            self._add_short(short, x, y)

    def _add_run(self, slot: int, rows: Indices, x: torch.Tensor, y: torch.Tensor) -> None:
        is_whole = rows[-1] - rows[0] + 1 == len(rows)
        place = slice(int(rows[0]), int(rows[-1]) + 1) if is_whole else torch.from_numpy(rows)
        tokens = x[place]
        offset = 0
        for a, b, width in self._slices():
            delta = torch.mm(torch.mm(tokens, a[slot, 0].t()), b[slot, 0].t())
            y[place, offset : offset + width] += delta
            offset += width

    def _add_short(self, groups: list[tuple[int, Indices]], x: torch.Tensor, y: torch.Tensor) -> None:
        longest = max(len(rows) for _, rows in groups)
        slots = torch.tensor([slot for slot, _ in groups])
        # Groups are made equally long by repeating their first row; what is computed for the repetitions is left where it is.
        padded = np.stack([np.pad(rows, (0, longest - len(rows)), constant_values=rows[0]) for _, rows in groups])
        is_real = torch.tensor([place < len(rows) for _, rows in groups for place in range(longest)])
        rows = torch.from_numpy(padded)
        tokens, real_rows = x[rows], rows.flatten()[is_real]
        offset = 0
        for a, b, width in self._slices():
            reduced = torch.bmm(tokens, a.index_select(0, slots)[:, 0].transpose(1, 2))
            deltas = torch.bmm(reduced, b.index_select(0, slots)[:, 0].transpose(1, 2))
            y[real_rows, offset : offset + width] += deltas.flatten(0, 1)[is_real]
            offset += width

    def _slices(self) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        return list(zip(self._factors.a, self._factors.b, self._factors.widths, strict=True))
