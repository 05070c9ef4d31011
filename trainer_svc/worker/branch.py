"""How what attention or an MLP computed joins the stream that passes it by: as it is, or through a norm of its own.

Shapes: stream and gradients are [N, h].
"""

from collections.abc import Callable
from typing import Protocol

import torch

from trainer_svc.worker.normalisation import Norm
from trainer_svc.worker.projection import Projection
from trainer_svc.worker.scratch import Scratch


class BranchEnd(Protocol):
    """The end of a branch: its last projection, and what lies between that and the stream. `plain` is what a record keeps of it."""

    def forward(
        self,
        x: torch.Tensor,
        low: torch.Tensor,
        stream: torch.Tensor,
        plain: torch.Tensor,
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the stream with what the branch makes of x to `out`; `low` is what the projection's `lower(x)` wrote."""

    def refill(self, x: torch.Tensor, low: torch.Tensor, plain: torch.Tensor, scratch: Scratch) -> None:
        """Fill `plain` as `forward` does."""

    def backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        low: torch.Tensor,
        plain: torch.Tensor,
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the gradient of x, from that of the stream, to `out`; the adapter's gradients are added to their sums."""


class PlainEnd:
    """The projection's output is added to the stream, as Llama does."""

    def __init__(self, projection: Projection) -> None:
        """Take the last projection."""
        self._projection = projection

    def forward(
        self,
        x: torch.Tensor,
        low: torch.Tensor,
        stream: torch.Tensor,
        plain: torch.Tensor,  # noqa: ARG002 - its derivative needs nothing
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the stream with the branch to `out`, in one product."""
        self._projection.forward(x, low, scratch, out, residual=stream)

    def refill(self, x: torch.Tensor, low: torch.Tensor, plain: torch.Tensor, scratch: Scratch) -> None:
        """Keep nothing."""

    def backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        low: torch.Tensor,
        plain: torch.Tensor,  # noqa: ARG002 - nothing was kept
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the gradient of x to `out`."""
        self._projection.backward(grad, x, low, scratch, out)


class NormedEnd:
    """The projection's output is normed, then added to the stream, as Gemma does."""

    def __init__(self, projection: Projection, norm: Norm) -> None:
        """Take the last projection and the norm behind it."""
        self._projection = projection
        self._norm = norm

    def forward(
        self,
        x: torch.Tensor,
        low: torch.Tensor,
        stream: torch.Tensor,
        plain: torch.Tensor,
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the stream with the normed branch to `out`, and the branch before its norm to `plain`."""
        self._projection.forward(x, low, scratch, plain)
        self._norm.forward(plain, scratch, out).add_(stream)

    def refill(self, x: torch.Tensor, low: torch.Tensor, plain: torch.Tensor, scratch: Scratch) -> None:
        """Fill `plain` again."""
        self._projection.forward(x, low, scratch, plain)

    def backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        low: torch.Tensor,
        plain: torch.Tensor,
        scratch: Scratch,
        out: torch.Tensor,
    ) -> None:
        """Write the gradient of x to `out`; that of the stream stays as it is."""
        with scratch.frame():
            grad_plain = scratch.take(*grad.shape).copy_(grad)
            self._norm.backward(grad_plain, plain, scratch, out=grad_plain)
            self._projection.backward(grad_plain, x, low, scratch, out)


def end_branch(
    projection: Projection, norm: torch.Tensor | None, make_norm: Callable[[torch.Tensor], Norm]
) -> BranchEnd:
    """Return the end of a branch, behind which lies a norm of that weight, or none."""
    return PlainEnd(projection) if norm is None else NormedEnd(projection, make_norm(norm))
