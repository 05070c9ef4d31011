"""A whole decoder on a pack: losses, and the gradients of the adapter.

Owns the order of layers and what is kept between forward and backward; a layer's own derivative is in `layer`.
"""

import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.attention import Rotation, TreeAttention, choose_kernel
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.layer import Kept, Layer, Places
from trainer_svc.worker.loss import sum_losses, sum_losses_with_gradient
from trainer_svc.worker.normalisation import RmsNorm
from trainer_svc.worker.packing import Pack


class Decoder:
    """A base with an adapter, or the base alone; cheap to make, it owns no weights."""

    def __init__(self, base: FrozenBase, adapter: Adapter | None, *, checkpointing: bool) -> None:
        """Join both. With `checkpointing` a layer keeps its input alone and runs again in the backward pass."""
        self._base = base
        groups = adapter.groups if adapter is not None else ({},) * base.shape.num_layers
        self._layers = [Layer(frozen, loras, base) for frozen, loras in zip(base.layers, groups, strict=True)]
        self._norm = RmsNorm(base.norm, base.config.rms_norm_eps)
        # One formula for the whole family, scaled variants included.
        self._rotary = LlamaRotaryEmbedding(base.config).to(base.device)
        self._kernel = choose_kernel(base.device)
        self._checkpointing = checkpointing

    def sum_losses(self, pack: Pack) -> float:
        """Return the loss summed over the learned tokens of a pack."""
        places, x = self._place(pack), self._embed(pack)
        for layer in self._layers:
            x, _ = layer.forward(x, places)
        return sum_losses(self._norm.forward(x[pack.sources]), pack.targets, self._base.head)

    def accumulate_gradients(self, pack: Pack, weight: float) -> float:
        """Return the summed loss of a pack; add the gradients of `weight` times it to the adapter's."""
        places, x = self._place(pack), self._embed(pack)
        kept: list[Kept | torch.Tensor] = []
        for layer in self._layers:
            y, of_layer = layer.forward(x, places)
            kept.append(x if self._checkpointing else of_layer)
            x = y
        del y, of_layer
        loss, grad = self._differentiate_loss(x, pack, weight)
        for layer in reversed(self._layers):
            grad = self._differentiate_layer(layer, grad, kept.pop(), places)
        return loss

    def _differentiate_layer(
        self, layer: Layer, grad: torch.Tensor, kept: Kept | torch.Tensor, places: Places
    ) -> torch.Tensor:
        if isinstance(kept, Kept):
            return layer.backward(grad, kept, places)
        return layer.backward_from_input(grad, kept, places)

    def _differentiate_loss(self, x: torch.Tensor, pack: Pack, weight: float) -> tuple[float, torch.Tensor]:
        sources = x[pack.sources]
        states = self._norm.forward(sources)
        loss, grad_states = sum_losses_with_gradient(states, pack.targets, self._base.head, weight)
        grad_sources = self._norm.backward(grad_states, sources)
        # A shared node may predict for several rows: summed in fp32.
        grad = torch.zeros(x.shape, device=x.device).index_add_(0, pack.sources, grad_sources.float())
        return loss, grad.to(x.dtype)

    def _embed(self, pack: Pack) -> torch.Tensor:
        return self._base.embedding.index_select(0, pack.ids)

    def _place(self, pack: Pack) -> Places:
        cos, sin = self._rotary(self._base.embedding, pack.positions[None])
        return Places(TreeAttention(pack, self._base.shape, self._kernel), Rotation(cos[0], sin[0]))
