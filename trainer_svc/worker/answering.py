"""The memory in which answers are generated: what tape, gradients and moments of training had, laid out anew for keys and values.

Owns what is taken; the sums are those of `trainer_svc.memory.generation`, by which a plan counts the phase.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adaptory.core.prompting import RenderedRow
from trainer_svc.memory.estimator import count_spare
from trainer_svc.memory.generation import (
    MAX_ROWS,
    AnswerSizes,
    count_cache_row,
    count_places,
    count_record,
    plan_sizes,
)
from trainer_svc.memory.layout import PackSize, count_scratch, count_sizes, count_tape, lay_out_tape
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import DeviceKind, Recompute, Techniques
from trainer_svc.worker.cache import KeyValueCache
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.packing import measure_pack
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.tape import Tape

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts that are to be answered, each in at most so many tokens, its end of turn included."""

    prompts: Sequence[Prompt]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class AnsweringRoom:
    """The memory answers are generated in: a tape of one record, which all layers share, a cache, and a scratch."""

    tape: Tape
    cache: KeyValueCache
    scratch: Scratch
    sizes: AnswerSizes


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What decides the memory a step had on a device, which answering may use: the packs of the job."""

    shape: ModelShape
    techniques: Techniques
    rank: int
    packs: Sequence[PackSize]
    device: torch.device

    @property
    def max_nodes(self) -> int:
        """Nodes of the largest pack."""
        return max(pack.nodes for pack in self.packs)

    @property
    def scratch_bytes(self) -> int:
        """What passes in a step: reading a prompt passes through the same layers, without their gradients."""
        kind = DeviceKind(self.device.type)
        return max(count_scratch(self.shape, self.techniques, pack, rank=self.rank, device=kind) for pack in self.packs)

    def count_cache_rows(self, prompt_nodes: int, num_places: int) -> int:
        """Return how many rows of the cache fit in what a step had, beside the one record that reading such packs needs."""
        nodes = max(prompt_nodes, MAX_ROWS)
        room = sum(count_tape(self.shape, self.techniques, self.max_nodes, self.rank)) + self._spare_bytes()
        return (room - count_record(self.shape, self.rank, nodes)) // count_cache_row(self.shape, num_places)

    def _spare_bytes(self) -> int:
        """Return what gradients and moments had."""
        kind = DeviceKind(self.device.type)
        return max(
            0,
            count_spare(self.shape, self.techniques, rank=self.rank, num_sizes=count_sizes(self.packs), device=kind),
        )


def take_room(step: StepMemory, questions: Questions) -> AnsweringRoom:
    """Take what answering needs, for as many rows as the memory of a step has room for.

    Of that, tape, scratch, gradients and moments must have been given back.
    """
    num_places = count_places(max(map(len, questions.prompts)), questions.max_new_tokens)
    packs = _pack_prompts(step, questions.prompts, num_places)
    prompt_nodes = max(pack.nodes for pack in packs)
    # Where there is room for none, one is taken all the same: the plan has counted it.
    num_rows = max(1, min(MAX_ROWS, len(questions.prompts), step.count_cache_rows(prompt_nodes, num_places)))
    dtype = dtype_of(step.techniques.compute)
    sizes = plan_sizes(num_rows, packs[0].rows, num_places, questions.max_new_tokens)
    return AnsweringRoom(
        tape=Tape(
            lay_out_tape(step.shape, step.rank, Recompute.NONE),
            num_layers=1,
            max_nodes=max(prompt_nodes, sizes.num_rows),
            device=step.device,
            store=None,
            dtype=dtype,
        ),
        cache=KeyValueCache(
            step.shape, num_rows=sizes.num_rows, num_places=num_places, device=step.device, dtype=dtype
        ),
        scratch=Scratch(step.scratch_bytes, step.device, dtype),
        sizes=sizes,
    )


def as_row(prompt: Prompt) -> RenderedRow:
    """Return a row whose only prediction is the token behind the prompt: a pack reads all before it."""
    return RenderedRow((*prompt, 0), (*(False,) * len(prompt), True))


def _pack_prompts(step: StepMemory, prompts: Sequence[Prompt], num_places: int) -> list[PackSize]:
    """Return the packs of prompts with as many rows each as leave room in a step's tape for a row of the cache; one at least."""
    packs: list[PackSize] = []
    for pack_rows in range(min(step.techniques.micro_batch_rows, len(prompts)), 0, -1):
        packs = [
            measure_pack([as_row(prompt) for prompt in prompts[begin : begin + pack_rows]])
            for begin in range(0, len(prompts), pack_rows)
        ]
        nodes = max(pack.nodes for pack in packs)
        if nodes <= step.max_nodes and step.count_cache_rows(nodes, num_places) > 0:
            break
    return packs
