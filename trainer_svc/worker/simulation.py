"""A second opinion on a plan: `python -m trainer_svc.worker.simulation` runs the worker's own step on tensors without memory.

Under PyTorch's fake tensors the code that trains runs as it is, for a base nobody has, and every storage it makes is counted while it
lives; of scratch, what its stack was used for at most. So the sums of `memory.layout` are checked, not repeated. What no tensor of
ours holds is not seen: of the terms the `context`, and what bitsandbytes' update of 8-bit moments takes inside.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter
from torch._subclasses.fake_tensor import FakeTensorMode

from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.layout import NF4_BLOCK_SIZE, lay_out_tape
from trainer_svc.memory.techniques import Techniques
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.base import FrozenBase
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.decoder import Decoder, Workplace
from trainer_svc.worker.device import settle_process
from trainer_svc.worker.imagined import imagine_base, imagine_rows, open_nowhere
from trainer_svc.worker.moments import make_map, make_moments
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import measure_pack, pack_rows
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.storage_meter import StorageMeter
from trainer_svc.worker.tape import Tape
from trainer_svc.worker.weights import Nf4Weight

# More than any step uses: it is fake, and only the part that is used counts.
_SCRATCH_BYTES = 1 << 44


@dataclass(frozen=True, slots=True)
class StepQuestion:
    """A step to simulate: a parsed config.json, and the tokens of the rows of each micro-batch."""

    config: Mapping[str, Any]
    techniques: Techniques
    micro_batches: Sequence[Sequence[int]]
    rank: int
    shared_tokens: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a step takes in tensors, in bytes: the peak, and what it is made of, by what was set up or passed."""

    peak_bytes: int
    parts: dict[str, int]


def simulate_step(question: StepQuestion) -> Simulation:
    """Return what one optimizer step takes. Raises InvalidRequest for an architecture the worker does not have."""
    _make_tables()
    with FakeTensorMode(allow_non_fake_inputs=True), StorageMeter() as meter, torch.no_grad():
        return _Stage(question, meter).run()


class _Stage:
    """Sets a step up part by part, noting what each leaves."""

    def __init__(self, question: StepQuestion, meter: StorageMeter) -> None:
        self._question = question
        self._settings = TrainingSettings(rank=question.rank, alpha=2 * question.rank)
        self._device = torch.device(question.device)
        self._meter = meter
        self._parts: dict[str, int] = {}

    def run(self) -> Simulation:
        techniques = self._question.techniques
        rows = [imagine_rows(lengths, self._question.shared_tokens) for lengths in self._question.micro_batches]
        with self._noting("frozen_weights"):
            base = imagine_base(self._question.config, techniques, self._device)
        with self._noting("adapter_and_gradients"):
            adapter = Adapter(base, self._settings, "imagined")
        with self._noting("optimizer"):
            optimizer = self._make_optimizer(adapter)
        with self._noting("tape"):
            tape = self._take_tape(base, max(measure_pack(micro_batch).nodes for micro_batch in rows))
        held_bytes = self._meter.bytes
        scratch = Scratch(_SCRATCH_BYTES, self._device, base.dtype)
        self._take_step(Decoder(base, adapter, self._join(tape, scratch)), optimizer, rows)
        self._parts["scratch"] = scratch.peak_bytes
        # Beside scratch a step makes indices, rotary tables and what single operations return.
        self._parts["other"] = max(0, self._meter.peak_bytes - _SCRATCH_BYTES - held_bytes)
        return Simulation(sum(self._parts.values()), self._parts)

    @contextmanager
    def _noting(self, part: str) -> Iterator[None]:
        before = self._meter.bytes
        yield
        self._parts[part] = self._meter.bytes - before

    def _take_step(
        self, decoder: Decoder, optimizer: Optimizer, micro_batches: Sequence[Sequence[RenderedRow]]
    ) -> None:
        for rows in micro_batches:
            decoder.accumulate_gradients(pack_rows(rows, self._device), 1.0)
        optimizer.step()

    def _join(self, tape: Tape, scratch: Scratch) -> Workplace:
        techniques = self._question.techniques
        return Workplace(tape, scratch, techniques.recompute, techniques.loss_block_tokens)

    def _make_optimizer(self, adapter: Adapter) -> Optimizer:
        techniques = self._question.techniques
        moments = make_moments(
            techniques.moments,
            size=adapter.masters.numel(),
            device=self._device,
            open_store=lambda _: open_nowhere(techniques.moments_home),
        )
        return Optimizer(adapter, moments, self._settings, num_steps=1)

    def _take_tape(self, base: FrozenBase, max_nodes: int) -> Tape:
        techniques = self._question.techniques
        return Tape(
            lay_out_tape(base.shape, self._settings.rank, techniques.recompute),
            num_layers=base.shape.num_layers,
            max_nodes=max_nodes,
            device=self._device,
            store=open_nowhere(techniques.activations_home),
            dtype=dtype_of(techniques.compute),
        )


def _make_tables() -> None:
    """Have the libraries make their constant tables: they read them value by value, which fake tensors have none of."""
    Nf4Weight(iter([torch.zeros(NF4_BLOCK_SIZE, NF4_BLOCK_SIZE, dtype=torch.bfloat16)]))
    for signed in (True, False):
        make_map(signed=signed)


def main() -> None:
    """Answer the question on standard input on standard output."""
    settle_process()
    question = TypeAdapter(StepQuestion).validate_json(sys.stdin.buffer.read())
    sys.stdout.buffer.write(TypeAdapter(Simulation).dump_json(simulate_step(question)) + b"\n")


if __name__ == "__main__":
    main()
