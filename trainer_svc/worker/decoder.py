"""A whole decoder on a pack: losses, and the gradients of the adapter.

Owns the order of layers and what is kept between forward and backward; a layer's own derivative is in `layer`.
"""

import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.attention import Rotation, TreeAttention, choose_kernel
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.layer import Layer, Places
from trainer_svc.worker.loss import sum_losses, sum_losses_with_gradient
from trainer_svc.worker.normalisation import RmsNorm
from trainer_svc.worker.packing import Pack
from trainer_svc.worker.tape import Tape


class Decoder:
    """A base with an adapter, or the base alone; cheap to make, it owns no weights."""

    def __init__(self, base: FrozenBase, adapter: Adapter | None, tape: Tape) -> None:
        """Join both; the tape must be cut for this base and may be shared with another decoder of it."""
        self._base = base
        self._tape = tape
        groups = adapter.groups if adapter is not None else ({},) * base.shape.num_layers
        self._layers = [Layer(frozen, loras, base) for frozen, loras in zip(base.layers, groups, strict=True)]
        self._norm = RmsNorm(base.norm, base.config.rms_norm_eps)
        # One formula for the whole family, scaled variants included.
        self._rotary = LlamaRotaryEmbedding(base.config).to(base.device)
        self._kernel = choose_kernel(base.device)

    def sum_losses(self, pack: Pack) -> float:
        """Return the loss summed over the learned tokens of a pack."""
        x = self._run(pack, self._place(pack))
        return sum_losses(self._norm.forward(x[pack.sources]), pack, self._base.head)

    def accumulate_gradients(self, pack: Pack, weight: float) -> float:
        """Return the summed loss of a pack; add the gradients of `weight` times it to the adapter's."""
        places = self._place(pack)
        loss, grad = self._differentiate_loss(self._run(pack, places), pack, weight)
        last = len(self._layers) - 1
        for index in range(last, -1, -1):
            kept = self._tape.open(index, pack.num_nodes)
            if self._tape.shares_slots and index != last:
                self._layers[index].fill(kept, places)
            grad = self._layers[index].backward(grad, kept, places)
        return loss

    def _run(self, pack: Pack, places: Places) -> torch.Tensor:
        """Return the output of the last layer, [N, h]; the tape is filled on the way."""
        torch.index_select(self._base.embedding, 0, pack.ids, out=self._tape.input(0, pack.num_nodes))
        for index, layer in enumerate(self._layers):
            out = self._tape.input(index + 1, pack.num_nodes)
            layer.forward(self._tape.open(index, pack.num_nodes), places, out)
        return self._tape.input(len(self._layers), pack.num_nodes)

    def _differentiate_loss(self, x: torch.Tensor, pack: Pack, weight: float) -> tuple[float, torch.Tensor]:
        sources = x[pack.sources]
        states = self._norm.forward(sources)
        loss, grad_states = sum_losses_with_gradient(states, pack, self._base.head, weight)
        grad_sources = self._norm.backward(grad_states, sources)
        # A shared node may predict for several rows: summed in fp32.
        grad = torch.zeros(x.shape, device=x.device).index_add_(0, pack.sources, grad_sources.float())
        return loss, grad.to(x.dtype)

    def _place(self, pack: Pack) -> Places:
        cos, sin = self._rotary(self._base.embedding, pack.positions[None])
        return Places(TreeAttention(pack, self._base.shape, self._kernel), Rotation(cos[0], sin[0]))
