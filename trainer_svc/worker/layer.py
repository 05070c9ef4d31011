"""One decoder layer, of Llama's kind or Gemma's (`architecture`), with LoRA: forward, and backward written out by hand.

Autograd would keep twice as much and take longer: here a layer keeps only what its derivative cannot cheaply make again. The contract
tests hold it against PEFT and TRL. Shapes: N nodes of a pack, h hidden, i intermediate size, kv all key heads. All compute is bf16
or fp16 (`compute`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from trainer_svc.memory.techniques import Recompute
from trainer_svc.worker.adapter import Adapter, LoraGroup
from trainer_svc.worker.attention import Rotation, TreeAttention
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.branch import end_branch
from trainer_svc.worker.normalisation import HeadNorms, Norm
from trainer_svc.worker.projection import Projection
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.tape import Kept
from trainer_svc.worker.weights import FrozenLayer


class Attends(Protocol):
    """Attention as the forward pass needs it."""

    def attend(self, heads: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Write what packed heads [N, H + 2K, D] attend to, [N, H * D], to `out`."""


class ReadingPlaces(Protocol):
    """Where nodes stand that are only read: enough for a forward pass."""

    @property
    def attention(self) -> Attends:
        """What the nodes see."""

    @property
    def rotation(self) -> Rotation:
        """Their positions."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the nodes of a pack stand: the same for every layer of one type."""

    attention: TreeAttention
    rotation: Rotation


class Layer:
    """One decoder layer."""

    def __init__(self, frozen: FrozenLayer, loras: dict[str, LoraGroup], base: FrozenBase) -> None:
        """Join the frozen layer with its adapter; `loras` is empty where there is none."""

        def make_norm(weight: torch.Tensor) -> Norm:
            return base.architecture.norm(weight, base.config.rms_norm_eps)

        self._projections = {name: Projection(linears, loras.get(name)) for name, linears in frozen.linears.items()}
        self._input_norm, self._mlp_norm = make_norm(frozen.input_norm), make_norm(frozen.mlp_norm)
        self._head_norms = HeadNorms.build(frozen, make_norm, base.shape.num_kv_heads)
        self._attention_end = end_branch(self._projections["output"], frozen.attention_output_norm, make_norm)
        self._mlp_end = end_branch(self._projections["down"], frozen.mlp_output_norm, make_norm)
        self._activation = base.architecture.activation
        self._head_dim, self._num_values = base.shape.head_dim, base.shape.num_kv_heads

    def forward(self, kept: Kept, places: ReadingPlaces, scratch: Scratch, out: torch.Tensor) -> None:
        """Fill `kept` from its input `x` and write the layer's output [N, h] to `out`."""
        self._fill_attention(kept, places, scratch)
        self._fill_gate_up(kept, scratch)
        with scratch.frame():
            activated, low = self._activate(kept, scratch), kept.lows["down"]
            self._projections["down"].lower(activated, low)
            self._mlp_end.forward(activated, low, kept.middle, kept.mlp_output, scratch, out)

    def refill(self, kept: Kept, places: Places, recompute: Recompute, scratch: Scratch) -> None:
        """Compute again what the forward pass did not keep."""
        if recompute is Recompute.FULL:
            self._fill_attention(kept, places, scratch)
        if recompute is not Recompute.NONE:
            self._fill_gate_up(kept, scratch)
        if recompute is Recompute.FULL:
            with scratch.frame():
                activated, low = self._activate(kept, scratch), kept.lows["down"]
                self._projections["down"].lower(activated, low)
                self._mlp_end.refill(activated, low, kept.mlp_output, scratch)

    def backward_(self, grad: torch.Tensor, kept: Kept, places: Places, scratch: Scratch) -> None:
        """Turn the gradient of the layer's output into that of its input, in place."""
        with scratch.frame():
            grad_middle = scratch.take(*grad.shape)
            self._backward_mlp(grad, kept, scratch, out=grad_middle)
            self._backward_attention(grad_middle, kept, places, scratch, out=grad)

    def _fill_attention(self, kept: Kept, places: ReadingPlaces, scratch: Scratch) -> None:
        with scratch.frame():
            normed = self._input_norm.forward(kept.x, scratch, out=scratch.take(*kept.x.shape))
            self._project("qkv", normed, kept, scratch, kept.plain_heads)
        heads = self._view_heads(kept.heads)
        if self._head_norms is not None:
            self._head_norms.forward(self._view_heads(kept.plain_heads), scratch, out=heads)
        places.rotation.rotate_(heads[:, : -self._num_values], scratch)
        places.attention.attend(heads, scratch, out=kept.attended)
        low = kept.lows["output"]
        self._projections["output"].lower(kept.attended, low)
        self._attention_end.forward(kept.attended, low, kept.x, kept.attention_output, scratch, kept.middle)

    def _fill_gate_up(self, kept: Kept, scratch: Scratch) -> None:
        with scratch.frame():
            normed = self._mlp_norm.forward(kept.middle, scratch, out=scratch.take(*kept.middle.shape))
            self._project("gate_up", normed, kept, scratch, kept.gate_up)

    def _activate(self, kept: Kept, scratch: Scratch) -> torch.Tensor:
        gate, up = kept.gate_up.chunk(2, 1)
        return self._activation.forward(gate, scratch.take(*gate.shape)).mul_(up)

    def _project(self, name: str, x: torch.Tensor, kept: Kept, scratch: Scratch, out: torch.Tensor) -> None:
        self._projections[name].lower(x, kept.lows[name])
        self._projections[name].forward(x, kept.lows[name], scratch, out)

    def _backward_mlp(self, grad: torch.Tensor, kept: Kept, scratch: Scratch, out: torch.Tensor) -> None:
        with scratch.frame():
            grad_normed = scratch.take(*kept.middle.shape)
            with scratch.frame():
                grad_gate_up = scratch.take(*kept.gate_up.shape)
                self._backward_down(grad, kept, scratch, grad_gate_up)
                normed = self._mlp_norm.forward(kept.middle, scratch, out=scratch.take(*kept.middle.shape))
                low = kept.lows["gate_up"]
                self._projections["gate_up"].backward(grad_gate_up, normed, low, scratch, out=grad_normed)
            self._mlp_norm.backward(grad_normed, kept.middle, scratch, out).add_(grad)

    def _backward_down(self, grad: torch.Tensor, kept: Kept, scratch: Scratch, grad_gate_up: torch.Tensor) -> None:
        gate, up = kept.gate_up.chunk(2, 1)
        grad_gate, grad_up = grad_gate_up.chunk(2, 1)
        with scratch.frame():
            passed = self._activation.forward(gate, scratch.take(*gate.shape))
            grad_activated = scratch.take(*gate.shape)
            # Lies where the gradient of gate and up will, which nothing reads before it is written.
            activated = torch.mul(passed, up, out=grad_gate_up.view(-1)[: gate.numel()].view(gate.shape))
            self._mlp_end.backward(grad, activated, kept.lows["down"], kept.mlp_output, scratch, out=grad_activated)
            torch.mul(grad_activated, passed, out=grad_up)
            self._activation.backward(grad_activated.mul_(up), gate, out=grad_gate)

    def _backward_attention(
        self, grad: torch.Tensor, kept: Kept, places: Places, scratch: Scratch, out: torch.Tensor
    ) -> None:
        with scratch.frame():
            grad_normed = scratch.take(*kept.x.shape)
            with scratch.frame():
                grad_heads = scratch.take(*kept.heads.shape)
                self._backward_heads(grad, kept, places, scratch, self._view_heads(grad_heads))
                normed = self._input_norm.forward(kept.x, scratch, out=scratch.take(*kept.x.shape))
                self._projections["qkv"].backward(grad_heads, normed, kept.lows["qkv"], scratch, out=grad_normed)
            self._input_norm.backward(grad_normed, kept.x, scratch, out).add_(grad)

    def _backward_heads(
        self, grad: torch.Tensor, kept: Kept, places: Places, scratch: Scratch, grad_heads: torch.Tensor
    ) -> None:
        with scratch.frame():
            grad_attended = scratch.take(*kept.attended.shape)
            low = kept.lows["output"]
            self._attention_end.backward(grad, kept.attended, low, kept.attention_output, scratch, out=grad_attended)
            places.attention.differentiate(self._view_heads(kept.heads), grad_attended, scratch, out=grad_heads)
        places.rotation.rotate_back_(grad_heads[:, : -self._num_values], scratch)
        if self._head_norms is not None:
            self._head_norms.backward_(grad_heads, self._view_heads(kept.plain_heads), scratch)

    def _view_heads(self, packed: torch.Tensor) -> torch.Tensor:
        return packed.view(packed.shape[0], -1, self._head_dim)


def join_layers(base: FrozenBase, adapter: Adapter | None) -> Sequence[Layer]:
    """Return the layers of a base, each with its adapter, or with none."""
    groups = adapter.groups if adapter is not None else ({},) * base.shape.num_layers
    return [Layer(frozen, loras, base) for frozen, loras in zip(base.layers, groups, strict=True)]
