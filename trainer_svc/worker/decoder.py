"""A whole decoder on a pack: losses, and the gradients of the adapter.

Owns the order of layers and what is kept between forward and backward; a layer's own derivative is in `layer`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer_svc.memory.techniques import Recompute
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.attention import Rotation, choose_kernels, plan_attention
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.layer import Places, join_layers
from trainer_svc.worker.loss import Loss
from trainer_svc.worker.packing import Pack
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.tape import Tape


@dataclass(frozen=True, slots=True)
class Workplace:
    """The memory a decoder computes in, and how: taken once, shared by the decoders of one base."""

    tape: Tape
    scratch: Scratch
    recompute: Recompute
    loss_block_tokens: int


class Decoder:
    """A base with an adapter, or the base alone; cheap to make, it owns no weights."""

    def __init__(self, base: FrozenBase, adapter: Adapter | None, workplace: Workplace) -> None:
        """Join all; the tape must be cut for this base."""
        self._base = base
        self._tape, self._scratch, self._recompute = workplace.tape, workplace.scratch, workplace.recompute
        self._layers = join_layers(base, adapter)
        self._norm = base.architecture.norm(base.norm, base.config.rms_norm_eps)
        self._loss = Loss(base.head, workplace.loss_block_tokens)
        self._rotary = base.architecture.open_rotary(base.config, base.device)
        self._kernels = choose_kernels(base.device, base.dtype, base.architecture.sights)

    def sum_losses(self, pack: Pack) -> torch.Tensor:
        """Return the loss summed over the learned tokens of a pack, a scalar in fp32."""
        x = self._run(pack, self._place(pack))
        with self._scratch.frame():
            _, states = self._read_states(x, pack)
            return self._loss.sum(states, pack, self._scratch)

    def accumulate_gradients(self, pack: Pack, weight: float) -> torch.Tensor:
        """Return the summed loss of a pack, a scalar in fp32; add the gradients of `weight` times it to the adapter's."""
        places = self._place(pack)
        x = self._run(pack, places)
        with self._scratch.frame():
            grad = self._scratch.take(*x.shape)
            loss = self._differentiate_loss(x, pack, weight, grad)
            for index in range(len(self._layers) - 1, -1, -1):
                kept = self._tape.reopen(index, pack.num_nodes)
                self._layers[index].refill(kept, places[index], self._recompute, self._scratch)
                self._layers[index].backward_(grad, kept, places[index], self._scratch)
        return loss

    def _run(self, pack: Pack, places: Sequence[Places]) -> torch.Tensor:
        """Return the output of the last layer, [N, h]; the tape is filled on the way."""
        num_nodes = pack.num_nodes
        self._base.embed(pack.ids, out=self._tape.input(0, num_nodes))
        for index, layer in enumerate(self._layers):
            out = self._tape.input(index + 1, num_nodes)
            layer.forward(self._tape.open(index, num_nodes), places[index], self._scratch, out)
            self._tape.close(index, num_nodes)
        return self._tape.input(len(self._layers), num_nodes)

    def _read_states(self, x: torch.Tensor, pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs at a pack's sources, [M, h], and what the head sees of them; both in scratch."""
        scratch, size = self._scratch, (pack.sources.numel(), x.shape[1])
        sources = torch.index_select(x, 0, pack.sources, out=scratch.take(*size))
        return sources, self._norm.forward(sources, scratch, out=scratch.take(*size))

    def _differentiate_loss(self, x: torch.Tensor, pack: Pack, weight: float, out: torch.Tensor) -> torch.Tensor:
        scratch = self._scratch
        with scratch.frame():
            sources, states = self._read_states(x, pack)
            grad_states = scratch.take(*states.shape)
            loss = self._loss.differentiate(states, pack, weight, scratch, out=grad_states)
            grad_sources = self._norm.backward(grad_states, sources, scratch, out=scratch.take(*sources.shape))
            # A shared node may predict for several rows: summed in fp32.
            grad = scratch.take(*x.shape, dtype=torch.float32).zero_()
            wide = scratch.take(*sources.shape, dtype=torch.float32).copy_(grad_sources)
            out.copy_(grad.index_add_(0, pack.sources, wide))
        return loss

    def _place(self, pack: Pack) -> Sequence[Places]:
        """Return where the nodes stand in each layer; layers of one type share it."""
        places = {}
        for kind, attention in plan_attention(pack, self._base.shape, self._kernels).items():
            cos, sin = self._rotary(self._base.embedding, pack.positions[None], kind)
            places[kind] = Places(attention, Rotation(cos[0], sin[0]))
        return [places[kind] for kind in self._base.architecture.layer_types]
