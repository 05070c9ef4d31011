"""What computes adapters: the interface that the compiled kernel and the PyTorch form have in common."""

from dataclasses import dataclass
from typing import Protocol

import torch

from serve_svc.engine.cpu_lora.batch import Batch


@dataclass(frozen=True, slots=True)
class Factors:
    """The slots of one layer as vLLM holds and changes them, one tensor for each slice of the output (q, k, v).

    `a` are [slots, 1, rank, in] and `b` [slots, 1, width, rank], bf16 and contiguous. Rows of A and columns of B beyond an adapter's
    rank are zero. `widths` are the slices' columns of the output, side by side.
    """

    a: tuple[torch.Tensor, ...]
    b: tuple[torch.Tensor, ...]
    widths: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether every tensor is as told above."""
        pairs = zip(self.a, self.b, self.widths, strict=True)
        return all(tensor.dtype == torch.bfloat16 and tensor.is_contiguous() for tensor in (*self.a, *self.b)) and all(
            a.shape[2] == b.shape[3] and b.shape[2] == width for a, b, width in pairs
        )


class LayerProduct(Protocol):
    """The adapters of one layer."""

    def add(self, batch: Batch, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add to each row of `y` that has an adapter its row of `x` times A and B; leave the base's rows as they are.

        Both are bf16 with contiguous rows. The product with A, that with B and the sum are each rounded to bf16, as in vLLM.
        """


class Product(Protocol):
    """One way to compute adapters."""

    name: str

    def open_layer(self, factors: Factors) -> LayerProduct:
        """Return the layer's product, which follows every later change of the factors."""
