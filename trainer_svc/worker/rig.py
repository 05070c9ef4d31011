"""All that a job holds in memory, set up by its techniques, and set up anew by others in the middle of the job.

Owns what is taken, when, and when it is given back. The adapter and its optimizer live through a change; base and workplace do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.held_out import choose_measured
from trainer_svc.memory.layout import BF16, PackSize, count_scratch, lay_out_tape
from trainer_svc.memory.techniques import BasePrecision, ComputePrecision, DeviceKind, Home, Techniques
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.answering import AnsweringRoom, Questions, StepMemory, take_room
from trainer_svc.worker.base import GROUPS, FrozenBase, check_parity, load_base
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.decoder import Decoder, Workplace
from trainer_svc.worker.device import Memory, keep_heap, release_heap
from trainer_svc.worker.generation import Generator
from trainer_svc.worker.kernel_room import KernelRoom
from trainer_svc.worker.moments import Moments, make_moments
from trainer_svc.worker.offload import open_store
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import Pack, measure_pack, pack_rows
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.tape import Tape

Part = TypeVar("Part")
MicroBatch = Sequence[RenderedRow]
# Values that are not those that are served: an adapter trained on them is judged on the parity base.
_UNSERVED = frozenset({BasePrecision.BF16, BasePrecision.INT8})


@dataclass(frozen=True, slots=True)
class Batches:
    """The rows of every optimizer step, in order, those that are held out, and those of general text, which are judged one by one.

    After the steps in `measured_steps`, counted from 1, the loss on some of the rows held out is measured.
    """

    steps: Sequence[Sequence[RenderedRow]]
    held_out: Sequence[RenderedRow]
    measured_steps: Sequence[int]
    general: Sequence[RenderedRow] = ()

    @property
    def measured(self) -> Sequence[RenderedRow]:
        """The rows that are measured on."""
        return choose_measured(self.held_out)

    def find_largest(self, techniques: Techniques) -> MicroBatch:
        """Return the micro-batch with the most nodes among those that are trained on."""
        cuts = (rows for batch in self.steps for rows in cut_rows(batch, techniques.micro_batch_rows))
        return max(cuts, key=lambda rows: measure_pack(rows).nodes)


def cut_rows(rows: Sequence[RenderedRow], micro_batch_rows: int) -> list[MicroBatch]:
    """Cut rows into micro-batches."""
    return [rows[begin : begin + micro_batch_rows] for begin in range(0, len(rows), micro_batch_rows)]


class Rig:
    """A base, an adapter with its optimizer, and a workplace, on one device."""

    def __init__(
        self,
        prepared: PreparedBase,
        settings: TrainingSettings,
        batches: Batches,
        device: torch.device,
        memory: Memory,
        folder: Path,
    ) -> None:
        """Keep what decides the sizes and take nothing yet; files of what is offloaded are made in `folder`."""
        self._prepared = prepared
        self._settings = settings
        self._batches = batches
        self._folder = folder
        self._held: Techniques | None = None
        self._base: FrozenBase | None = None
        self._adapter: Adapter | None = None
        self._moments: Moments | None = None
        self._optimizer: Optimizer | None = None
        self._workplace: Workplace | None = None
        self._memory = memory
        self._kernel_room: KernelRoom | None = None
        self.device = device

    @property
    def techniques(self) -> Techniques:
        """What it is set up by."""
        return _there(self._held)

    @property
    def adapter(self) -> Adapter:
        """The adapter."""
        return _there(self._adapter)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer of the adapter."""
        return _there(self._optimizer)

    def set_up(self, techniques: Techniques) -> None:
        """Take what the techniques ask for; what is there and the same for both is kept.

        When it fails, what was taken is given back by the next call. Raises as `load_base`, and what a failed allocation raises.
        """
        held, self._held = self._held, None
        self._workplace = None
        release_heap()
        if held is None or (held.base, held.frozen_home) != (techniques.base, techniques.frozen_home):
            self._base = None
            self._base = self._load_base(techniques.base, techniques.frozen_home, techniques.compute)
        self._take_adapter(techniques, held)
        packs = self._measure_packs(techniques)
        self._workplace = self._take_workplace(techniques, packs)
        if self._kernel_room is None:
            # How many are kept was settled before the first tensor, by the plan the process began with.
            self._kernel_room = KernelRoom(self._memory, _there(self._base).shape, techniques.kernel_sizes)
        self._kernel_room.foresee(techniques, packs)
        self._held = techniques
        keep_heap()

    def pack(self, rows: MicroBatch) -> Pack:
        """Pack a micro-batch as the workplace is cut for. Raises as a failed allocation where its kernels would find no room."""
        _there(self._kernel_room).meet(self.techniques, measure_pack(rows))
        return pack_rows(rows, self.device)

    def decode(self) -> Decoder:
        """Return the base with the adapter."""
        return Decoder(_there(self._base), self.adapter, _there(self._workplace))

    def decode_bare(self) -> Decoder:
        """Return the base alone."""
        return Decoder(_there(self._base), None, _there(self._workplace))

    def take_answering_room(self, questions: Questions) -> AnsweringRoom:
        """Give back the workplace, and take in its stead what answering needs; training must be finished."""
        shape, packs = _there(self._base).shape, self._measure_packs(self.techniques)
        self._workplace = None
        release_heap()
        room = take_room(StepMemory(shape, self.techniques, self._settings.rank, packs, self.device), questions)
        keep_heap()
        return room

    def generate(self, room: AnsweringRoom, ends: frozenset[int]) -> Generator:
        """Return the base with the adapter, to answer with."""
        return Generator(_there(self._base), self.adapter, room, ends)

    def generate_bare(self, room: AnsweringRoom, ends: frozenset[int]) -> Generator:
        """Return the base alone, to answer with."""
        return Generator(_there(self._base), None, room, ends)

    def hold_served_base(self) -> None:
        """See to it that the base has the values that are served, to judge on: others are read from the parity base as needed.

        So are those of NF4 on a CPU: for one token a row, reading them takes a fifth of the time that dequantising does.
        """
        is_slow = self.techniques.base is BasePrecision.NF4 and self.device.type == "cpu"
        if self.techniques.base in _UNSERVED or is_slow:
            self._base = None
            self._base = self._load_base(BasePrecision.PARITY_BF16, Home.DISK, self.techniques.compute)

    def finish_training(self) -> None:
        """Let go of gradients and moments: the adapter has its last values, which become those that are served."""
        self._moments = self._optimizer = None
        self.adapter.round_as_served()
        self.adapter.drop_gradients()

    def give_back_workplace(self) -> None:
        """Let go of what only computing needs."""
        self._workplace = None

    def _load_base(self, precision: BasePrecision, home: Home, compute: ComputePrecision) -> FrozenBase:
        prepared, is_parity = self._prepared, precision is BasePrecision.PARITY_BF16
        folder = prepared.parity_dir if is_parity else prepared.original_dir
        streams = home is not Home.DEVICE and precision is not BasePrecision.NF4
        largest = max(num_in * num_out for num_in, num_out in prepared.shape.linear_shapes().values())
        place_bytes = largest * len(GROUPS["qkv"]) // 2
        store = None if streams else open_store(home, self._folder, place_bytes)
        base = load_base(folder, precision, self.device, store, streams=streams, compute=compute)
        if precision is BasePrecision.NF4:
            check_parity(base, prepared.parity_dir, Scratch(0, self.device, base.dtype))
        return base

    def _take_adapter(self, techniques: Techniques, held: Techniques | None) -> None:
        """Make adapter and optimizer, all or none; or move the moments of those there are."""
        store_for = partial(open_store, techniques.moments_home, self._folder)
        if self._adapter is None:
            base = _there(self._base)
            adapter = Adapter(base, self._settings, self._prepared.name)
            moments = make_moments(
                techniques.moments, size=adapter.masters.numel(), device=self.device, open_store=store_for
            )
            self._adapter, self._moments = adapter, moments
            self._optimizer = Optimizer(adapter, moments, self._settings, len(self._batches.steps))
        elif held is not None and held.moments_home is not techniques.moments_home and self._moments is not None:
            self._moments.offload(store_for)

    def _measure_packs(self, techniques: Techniques) -> list[PackSize]:
        packs = [
            measure_pack(rows)
            for batch in (*self._batches.steps, self._batches.held_out, self._batches.measured)
            for rows in cut_rows(batch, techniques.micro_batch_rows)
        ]
        return packs + [measure_pack([row]) for row in self._batches.general]

    def _take_workplace(self, techniques: Techniques, packs: Sequence[PackSize]) -> Workplace:
        base, rank = _there(self._base), self._settings.rank
        kind, dtype = DeviceKind(self.device.type), dtype_of(techniques.compute)
        max_nodes = max(pack.nodes for pack in packs)
        widths = lay_out_tape(base.shape, rank, techniques.recompute)
        record_bytes = BF16 * max_nodes * sum(widths.record.values())
        scratch_bytes = max(count_scratch(base.shape, techniques, pack, rank=rank, device=kind) for pack in packs)
        tape = Tape(
            widths,
            num_layers=base.shape.num_layers,
            max_nodes=max_nodes,
            device=self.device,
            store=open_store(techniques.activations_home, self._folder, record_bytes),
            dtype=dtype,
        )
        scratch = Scratch(scratch_bytes, self.device, dtype)
        return Workplace(tape, scratch, techniques.recompute, techniques.loss_block_tokens)


def _there(part: Part | None) -> Part:
    """Return a part that must have been taken. Raises LookupError when `set_up` has not succeeded."""
    if part is None:
        message = "the rig is not set up"
        raise LookupError(message)
    return part
