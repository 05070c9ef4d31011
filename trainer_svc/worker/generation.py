"""Greedy answers of a base, alone or with its adapter, to many prompts at once: what a judgement reads besides losses.

The layers are those that train, on the same frozen values and adapter copies, so an answer is what serving them would say. Owns the
order of work: prompts are read in packs that share their beginnings, then every row grows by a token at a time. What is remembered of
a row is `cache`'s; how many rows there is room for was planned by `trainer_svc.memory.generation`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from statistics import fmean

import torch

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.answering import AnsweringRoom, Prompt, as_row
from trainer_svc.worker.attention import Rotation, choose_kernels, plan_attention
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.cache import (
    CachedAttention,
    FillingAttention,
    LayerCache,
    PromptPlaces,
    Seen,
    TokenPlaces,
)
from trainer_svc.worker.layer import ReadingPlaces, join_layers
from trainer_svc.worker.packing import pack_rows

# A token and the natural logarithm of its probability.
_Guess = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's tokens, without the one that ended it, and how sure the model was.

    `certainty` is the geometric mean of their probabilities, 0 to 1; that of the token which ended it counts, as in what is served.
    """

    ids: tuple[int, ...]
    certainty: float


@dataclass
class _Batch:
    """Rows that grow together: how far each was read [R], the token each ends with [R], and what was generated."""

    lengths: torch.Tensor
    last: torch.Tensor
    answers: list[list[int]]
    logprobs: list[list[float]]
    is_open: list[bool]


class Generator:
    """A base with an adapter, or alone, that answers; cheap to make, it owns no weights."""

    def __init__(self, base: FrozenBase, adapter: Adapter | None, room: AnsweringRoom, ends: frozenset[int]) -> None:
        """Join all; the room must be cut for this base, and any of `ends` ends an answer."""
        self._base, self._room, self._ends = base, room, ends
        self._layers = join_layers(base, adapter)
        self._norm = base.architecture.norm(base.norm, base.config.rms_norm_eps)
        self._rotary = base.architecture.open_rotary(base.config, base.device)
        self._kernels = choose_kernels(base.device, base.dtype, base.architecture.sights)

    def answer(self, prompts: Sequence[Prompt], beat: Callable[[], None]) -> list[Answer]:
        """Return the likeliest continuation of each prompt up to its end, which is left out, or to the room's most tokens.

        It has one token at least, as what is served has.

        Prompts are answered in their order, as many at a time as there is room for; `beat` is called after each step.
        """
        num_rows = self._room.sizes.num_rows
        answers: list[Answer] = []
        for begin in range(0, len(prompts), num_rows):
            answers += self._answer_together(prompts[begin : begin + num_rows], beat)
        return answers

    def _answer_together(self, prompts: Sequence[Prompt], beat: Callable[[], None]) -> list[Answer]:
        order = _order_for_packs(prompts, self._room.sizes.pack_rows)
        batch = self._read([prompts[place] for place in order], beat)
        # The first token came with the prompt.
        for _ in range(self._room.sizes.max_new_tokens - 1):
            if not any(batch.is_open):
                break
            self._grow(batch)
            beat()
        answered = zip(batch.answers, batch.logprobs, strict=True)
        by_place = dict(
            zip(order, (Answer(tuple(ids), exp(fmean(logprobs))) for ids, logprobs in answered), strict=True)
        )
        return [by_place[place] for place in range(len(prompts))]

    def _read(self, prompts: Sequence[Prompt], beat: Callable[[], None]) -> _Batch:
        """Read prompts into the cache, a pack at a time, and take the first token of each answer."""
        firsts: list[_Guess] = []
        pack_size = self._room.sizes.pack_rows
        for begin in range(0, len(prompts), pack_size):
            firsts += self._read_pack(prompts[begin : begin + pack_size], begin)
            beat()
        batch = _Batch(
            lengths=torch.tensor([len(prompt) for prompt in prompts], device=self._base.device),
            last=torch.empty(len(prompts), dtype=torch.int64, device=self._base.device),
            answers=[[] for _ in prompts],
            logprobs=[[] for _ in prompts],
            is_open=[True] * len(prompts),
        )
        self._note(batch, firsts)
        return batch

    def _read_pack(self, prompts: Sequence[Prompt], begin: int) -> list[_Guess]:
        """Read one pack into the rows of the cache from `begin`; return what follows each prompt."""
        pack = pack_rows([as_row(prompt) for prompt in prompts], self._base.device)
        rotations, trees = self._turn(pack.positions), plan_attention(pack, self._base.shape, self._kernels)
        rows = slice(begin, begin + len(prompts))

        def stand(layer: int, kind: str) -> ReadingPlaces:
            cache = LayerCache.of(self._room.cache, layer, rows)
            return PromptPlaces(FillingAttention(trees[kind], pack, cache), rotations[kind])

        return self._run(pack.ids, stand, pack.sources[: len(prompts)], barred=sorted(self._ends))

    def _grow(self, batch: _Batch) -> None:
        """Add a token to every row; those that ended go along, their tokens are dropped."""
        rotations, sights = self._turn(batch.lengths), self._base.architecture.sights
        seen = {kind: Seen.build(batch.lengths, self._room.cache.num_places, sight) for kind, sight in sights.items()}
        rows = slice(0, len(batch.answers))

        def stand(layer: int, kind: str) -> ReadingPlaces:
            cache = LayerCache.of(self._room.cache, layer, rows)
            return TokenPlaces(CachedAttention(cache, seen[kind]), rotations[kind])

        nexts = self._run(batch.last, stand, torch.arange(len(batch.answers), device=self._base.device), barred=[])
        batch.lengths += 1
        self._note(batch, nexts)

    def _turn(self, positions: torch.Tensor) -> dict[str, Rotation]:
        """Return the rotation of positions [N] in each type of layer."""
        turned = {kind: self._rotary(self._base.embedding, positions[None], kind) for kind in self._kernels}
        return {kind: Rotation(cos[0], sin[0]) for kind, (cos, sin) in turned.items()}

    def _note(self, batch: _Batch, guesses: Sequence[_Guess]) -> None:
        batch.last.copy_(torch.tensor([token for token, _ in guesses]))
        for row, (token, logprob) in enumerate(guesses):
            if not batch.is_open[row]:
                continue
            batch.logprobs[row].append(logprob)
            batch.is_open[row] = token not in self._ends
            if batch.is_open[row]:
                batch.answers[row].append(token)

    def _run(
        self,
        ids: torch.Tensor,
        stand: Callable[[int, str], ReadingPlaces],
        sources: torch.Tensor,
        barred: Sequence[int],
    ) -> list[_Guess]:
        """Run tokens [N] through all layers; return the likeliest token behind each of `sources` [R], but for those `barred`."""
        tape, scratch, num_nodes = self._room.tape, self._room.scratch, ids.numel()
        x = tape.input(0, num_nodes)
        self._base.embed(ids, out=x)
        for index, (layer, kind) in enumerate(zip(self._layers, self._base.architecture.layer_types, strict=True)):
            out = tape.input(1, num_nodes)
            layer.forward(tape.open(0, num_nodes), stand(index, kind), scratch, out)
            x.copy_(out)
        with scratch.frame():
            size = (sources.numel(), x.shape[1])
            states = torch.index_select(x, 0, sources, out=scratch.take(*size))
            states = self._norm.forward(states, scratch, out=scratch.take(*size))
            logits = torch.mm(states, self._base.head.T, out=scratch.take(size[0], self._base.head.shape[0]))
            logits[:, list(barred)] = -torch.inf
            best, tokens = logits.max(1)
            # In place, for there is room for no more: of the few terms that weigh, rounding takes less than a hundredth.
            sums = logits.sub_(best[:, None]).exp_().sum(1, dtype=torch.float32)
            return list(zip(tokens.tolist(), sums.log().neg().tolist(), strict=True))


def _order_for_packs(prompts: Sequence[Prompt], pack_size: int) -> list[int]:
    """Return the places of prompts so that each pack has its rows in the order packing gives them."""
    places = range(len(prompts))
    packs = (places[begin : begin + pack_size] for begin in range(0, len(prompts), pack_size))
    return [place for pack in packs for place in sorted(pack, key=prompts.__getitem__)]
