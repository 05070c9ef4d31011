"""One decoder layer of the Llama family with LoRA: forward, and backward written out by hand.

Autograd would keep twice as much and take longer: here a layer keeps only what its derivative cannot cheaply make again. The contract
tests hold it against PEFT and TRL. Shapes: N nodes of a pack, h hidden, i intermediate size, kv all key heads. All compute is bf16.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from trainer_svc.worker.adapter import LoraGroup
from trainer_svc.worker.attention import Rotation, TreeAttention
from trainer_svc.worker.base import FrozenBase, FrozenLayer
from trainer_svc.worker.normalisation import HeadNorms, RmsNorm
from trainer_svc.worker.projection import Projection
from trainer_svc.worker.tape import Kept


@dataclass(frozen=True, slots=True)
class Places:
    """Where the nodes of a pack stand: the same for every layer."""

    attention: TreeAttention
    rotation: Rotation


class Layer:
    """One decoder layer."""

    def __init__(self, frozen: FrozenLayer, loras: dict[str, LoraGroup], base: FrozenBase) -> None:
        """Join the frozen layer with its adapter; `loras` is empty where there is none."""
        eps = base.config.rms_norm_eps
        self._projections = {name: Projection(linears, loras.get(name)) for name, linears in frozen.linears.items()}
        self._input_norm, self._mlp_norm = RmsNorm(frozen.input_norm, eps), RmsNorm(frozen.mlp_norm, eps)
        self._head_norms = HeadNorms.build(frozen, eps, base.shape.num_kv_heads)
        self._head_dim, self._num_values = base.shape.head_dim, base.shape.num_kv_heads

    def forward(self, kept: Kept, places: Places, out: torch.Tensor) -> None:
        """Fill `kept` from its input `x` and write the layer's output [N, h] to `out`."""
        activated = self.fill(kept, places)
        self._projections["down"].forward(activated, kept.lows["down"], out, residual=kept.middle)

    def fill(self, kept: Kept, places: Places) -> torch.Tensor:
        """Run all but the last product from `kept.x`; return that product's input [N, i]."""
        self._project("qkv", self._input_norm.forward(kept.x), kept, kept.plain_heads)
        heads = self._view_heads(kept.heads)
        if self._head_norms is not None:
            self._head_norms.forward(self._view_heads(kept.plain_heads), out=heads)
        places.rotation.rotate_(heads[:, : -self._num_values])
        places.attention.attend(heads, out=kept.attended)
        self._project("output", kept.attended, kept, kept.middle, residual=kept.x)
        self._project("gate_up", self._mlp_norm.forward(kept.middle), kept, kept.gate_up)
        gate, up = kept.gate_up.chunk(2, 1)
        activated = functional.silu(gate).mul_(up)
        self._projections["down"].lower(activated, kept.lows["down"])
        return activated

    def backward(self, grad: torch.Tensor, kept: Kept, places: Places) -> torch.Tensor:
        """Return the gradient of the layer's input from that of its output."""
        grad = self._backward_mlp(grad, kept)
        return self._backward_attention(grad, kept, places)

    def _project(
        self, name: str, x: torch.Tensor, kept: Kept, out: torch.Tensor, residual: torch.Tensor | None = None
    ) -> None:
        self._projections[name].lower(x, kept.lows[name])
        self._projections[name].forward(x, kept.lows[name], out, residual)

    def _backward_mlp(self, grad: torch.Tensor, kept: Kept) -> torch.Tensor:
        gate, up = kept.gate_up.chunk(2, 1)
        silu = functional.silu(gate)
        grad_activated = self._projections["down"].backward(grad, silu * up, kept.lows["down"])
        grad_gate_up = torch.empty_like(kept.gate_up)
        grad_gate, grad_up = grad_gate_up.chunk(2, 1)
        torch.mul(grad_activated, silu, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad_activated.mul_(up), gate, grad_input=grad_gate)
        normed = self._mlp_norm.forward(kept.middle)
        grad_normed = self._projections["gate_up"].backward(grad_gate_up, normed, kept.lows["gate_up"])
        return self._mlp_norm.backward(grad_normed, kept.middle).add_(grad)

    def _backward_attention(self, grad: torch.Tensor, kept: Kept, places: Places) -> torch.Tensor:
        grad_attended = self._projections["output"].backward(grad, kept.attended, kept.lows["output"])
        grad_heads = places.attention.differentiate(self._view_heads(kept.heads), grad_attended)
        places.rotation.rotate_back_(grad_heads[:, : -self._num_values])
        if self._head_norms is not None:
            grad_heads = self._head_norms.backward(grad_heads, self._view_heads(kept.plain_heads))
        normed = self._input_norm.forward(kept.x)
        grad_normed = self._projections["qkv"].backward(grad_heads.flatten(1), normed, kept.lows["qkv"])
        return self._input_norm.backward(grad_normed, kept.x).add_(grad)

    def _view_heads(self, packed: torch.Tensor) -> torch.Tensor:
        return packed.view(packed.shape[0], -1, self._head_dim)
