"""A small job of ten steps for the contract suites of the training loop, with operations that fail when they are told to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from adaptory.core.base_model import PreparedBase
from adaptory.core.base_shape import BaseShape
from tests.contracts.training_stand import CPU, SETTINGS, build_base, make_rows
from tests.fakes.memory import PlentyOfMemory
from trainer_svc.jobs.workspace import Phase, Rung, Workspace
from trainer_svc.memory.planner import plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import ComputePrecision
from trainer_svc.worker.candidates import Candidates
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.loss_scale import DynamicScaling, choose_scaling
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import Batches, Rig
from trainer_svc.worker.stopping import StoppingRule
from trainer_svc.worker.train import train

ROWS_PER_STEP, NUM_STEPS = 4, 10


class FailingAllocations(TorchDispatchMode):
    """Lets one operation fail, as an allocator does that has no more, each time it is told to: the n-th from now."""

    def __init__(self) -> None:
        super().__init__()
        self._left = -1

    def fail_in(self, num_operations: int) -> None:
        """Let the operation fail that comes after so many."""
        self._left = num_operations

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or fail it."""
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return function(*args, **(kwargs or {}))


class Course:
    """One small job: ten steps of four rows."""

    def __init__(self, folder: Path) -> None:
        build_base(folder, "llama")
        shape = BaseShape.from_folder(folder / "parity")
        self.prepared = PreparedBase(folder, _Manifest(), shape, "")  # type: ignore[arg-type]
        steps = [make_rows(ROWS_PER_STEP, num_shared=6, seed=seed) for seed in range(NUM_STEPS)]
        self.batches = Batches(steps, make_rows(2 * ROWS_PER_STEP, seed=99), [NUM_STEPS])
        self._lengths = [[len(row.ids) for row in rows] for rows in steps]
        self.rungs = self.plan(ComputePrecision.BF16)
        self.candidate_steps: list[int] = []

    def plan(self, compute: ComputePrecision) -> tuple[Rung, ...]:
        """Return the ladder of the best plan for a device that computes in this."""
        request = PlanRequest(1 << 40, SETTINGS.rank, ROWS_PER_STEP, self._lengths, compute=compute)
        return plan_memory(ModelShape.from_folder(self.prepared.parity_dir), request).rungs

    def run(
        self,
        folder: Path,
        rungs: Sequence[Rung],
        disturb: Callable[[int], None] = lambda _step: None,
        measured_steps: Sequence[int] = (NUM_STEPS,),
        scale: float | None = None,
    ) -> tuple[list[float], Ladder]:
        """Train and return the losses; `disturb` is told after each step how many are done.

        The steps of the candidates are in `candidate_steps` then, best first. With a `scale` the loss's begins there, and not where
        it does in a job.
        """
        folder.mkdir(exist_ok=True)
        workspace = Workspace(folder)
        meter = _DisturbedMeter(workspace, disturb)
        batches = replace(self.batches, measured_steps=measured_steps)
        rig = Rig(self.prepared, SETTINGS, batches, CPU, PlentyOfMemory(), folder)
        ladder = Ladder(rungs, rig, meter)
        ladder.load()
        compute = rungs[0].techniques.compute
        scaling = DynamicScaling(meter.tell, scale) if scale else choose_scaling(compute, meter.tell)
        with meter.measure(Phase.STEP), Candidates(workspace.candidates_dir) as candidates:
            train(rig, ladder, batches, meter, StoppingRule(0), candidates, scaling)
            self.candidate_steps = [candidate.step for candidate in candidates.best_first]
        return meter.train_losses, ladder


def read_held_out(folder: Path) -> list[float]:
    """Return the losses on held-out rows that a run reported."""
    reported = (progress.held_out_loss for progress, _ in Workspace(folder).read_progress(0))
    return [loss for loss in reported if loss is not None]


class _Manifest:
    name = "tiny"


class _DisturbedMeter(Meter):
    """Tells after each step that the next one begins."""

    def __init__(self, workspace: Workspace, disturb: Callable[[int], None]) -> None:
        super().__init__(workspace, PlentyOfMemory())
        self._disturb = disturb

    def report_step(self, *, num_steps: int, loss: float, learning_rate: float) -> None:
        super().report_step(num_steps=num_steps, loss=loss, learning_rate=learning_rate)
        self._disturb(len(self.train_losses))
