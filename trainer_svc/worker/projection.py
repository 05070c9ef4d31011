"""One matrix product of a decoder layer with its LoRA adapter, forward and backward.

Frozen weights have no gradient; adapter gradients go straight into their fp32 sums.
"""

from collections.abc import Sequence

import torch

from trainer_svc.worker.adapter import LoraGroup
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.weights import FrozenLinears


class Projection:
    """y = x Wᵀ + b + (x Aᵀ) s Bᵀ for the linear layers of one group, which share x and therefore their stacked A."""

    def __init__(self, frozen: FrozenLinears, lora: LoraGroup | None) -> None:
        """Join frozen layers with their adapter, or with none."""
        self._frozen = frozen
        self._lora = lora

    def lower(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Write (x Aᵀ) s, [N, ranks of the group], to `out`; nothing without an adapter."""
        if self._lora is not None:
            torch.mm(x, self._lora.down.T, out=out).mul_(self._lora.scale)

    def forward(
        self,
        x: torch.Tensor,
        low: torch.Tensor,
        scratch: Scratch,
        out: torch.Tensor,
        residual: torch.Tensor | None = None,
    ) -> None:
        """Write y, [N, out], to `out`, from x and what `lower(x)` wrote; `residual` is added on the way."""
        with scratch.frame():
            dense = self._frozen.weight.dense(scratch)
            if residual is None:
                torch.mm(x, dense.T, out=out)
            else:
                torch.addmm(residual, x, dense.T, out=out)
        if self._frozen.bias is not None:
            out += self._frozen.bias
        if self._lora is not None:
            for part, part_low, up in zip(self._split(out), self._split_low(low), self._lora.ups, strict=True):
                part.addmm_(part_low, up.T)

    def backward(
        self, grad: torch.Tensor, x: torch.Tensor, low: torch.Tensor, scratch: Scratch, out: torch.Tensor
    ) -> None:
        """Write the gradient of x, from that of y, to `out`, and add the adapter's gradients to their sums."""
        with scratch.frame():
            torch.mm(grad, self._frozen.weight.dense(scratch), out=out)
        if self._lora is None:
            return
        with scratch.frame():
            grad_low = scratch.take(*low.shape)
            parts = zip(
                self._split(grad),
                self._split_low(low),
                self._split_low(grad_low),
                self._lora.ups,
                self._lora.up_grads,
                strict=True,
            )
            for part_grad, part_low, part_grad_low, up, up_grad in parts:
                torch.mm(part_grad, up, out=part_grad_low)
                # The long side first: the other order runs slower.
                _add_product(up_grad.T, part_low.T, part_grad, scratch)
            grad_low.mul_(self._lora.scale)
            _add_product(self._lora.down_grad, grad_low.T, x, scratch)
            out.addmm_(grad_low, self._lora.down)

    def _split(self, y: torch.Tensor) -> Sequence[torch.Tensor]:
        return y.split_with_sizes(self._frozen.widths, 1)

    def _split_low(self, low: torch.Tensor) -> Sequence[torch.Tensor]:
        return low.chunk(len(self._frozen.widths), 1)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scratch: Scratch) -> None:
    """Add left @ right, computed in two bytes, to an fp32 total; widened here, since a mixed sum would do so in memory of its own."""
    with scratch.frame():
        product = torch.mm(left, right, out=scratch.take(*total.shape))
        total.add_(scratch.take(*total.shape, dtype=torch.float32).copy_(product))
