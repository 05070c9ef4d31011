"""What a gated MLP lets its gate pass by, forward and backward, in place of nothing: results go where the caller says."""

from typing import Protocol

import torch


class Activation(Protocol):
    """A function of each element."""

    def forward(self, gate: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the activated gate to `out` and return it."""

    def backward(self, grad: torch.Tensor, gate: torch.Tensor, out: torch.Tensor) -> None:
        """Write the gradient of the gate, from that of the activated one, to `out`."""


class Silu:
    """x sigmoid(x), as Llama has it."""

    def forward(self, gate: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the activated gate to `out` and return it."""
        torch.ops.aten.silu.out(gate, out=out)
        return out

    def backward(self, grad: torch.Tensor, gate: torch.Tensor, out: torch.Tensor) -> None:
        """Write the gradient of the gate to `out`."""
        torch.ops.aten.silu_backward.grad_input(grad, gate, grad_input=out)


class TanhGelu:
    """x Φ(x) by its approximation with tanh (arXiv:1606.08415), as Gemma has it."""

    def forward(self, gate: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the activated gate to `out` and return it."""
        torch.ops.aten.gelu.out(gate, approximate="tanh", out=out)
        return out

    def backward(self, grad: torch.Tensor, gate: torch.Tensor, out: torch.Tensor) -> None:
        """Write the gradient of the gate to `out`."""
        torch.ops.aten.gelu_backward.grad_input(grad, gate, approximate="tanh", grad_input=out)
