"""The climb: allocations that fail, wherever they fail, cost memory techniques but no batch and no update."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from adaptory.core.base_model import PreparedBase
from adaptory.core.base_shape import BaseShape
from tests.contracts.training_stand import CPU, SETTINGS, build_base, make_rows
from tests.fakes.memory import PlentyOfMemory
from trainer_svc.jobs.workspace import Phase, Rung, Workspace
from trainer_svc.memory.planner import plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.worker.checkpoint import Checkpoint
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import Batches, Rig
from trainer_svc.worker.stopping import StoppingRule
from trainer_svc.worker.train import train

pytestmark = pytest.mark.filterwarnings("ignore")
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
        lengths = [[len(row.ids) for row in rows] for rows in steps]
        request = PlanRequest(1 << 40, SETTINGS.rank, ROWS_PER_STEP, lengths)
        self.rungs = plan_memory(ModelShape.from_folder(folder / "parity"), request).rungs

    def run(
        self,
        folder: Path,
        rungs: Sequence[Rung],
        disturb: Callable[[int], None] = lambda _step: None,
        measured_steps: Sequence[int] = (NUM_STEPS,),
    ) -> tuple[list[float], Ladder]:
        """Train and return the losses; `disturb` is told after each step how many are done."""
        workspace = Workspace(folder)
        meter = _DisturbedMeter(workspace, disturb)
        batches = replace(self.batches, measured_steps=measured_steps)
        rig = Rig(self.prepared, SETTINGS, batches, CPU, PlentyOfMemory(), folder)
        ladder = Ladder(rungs, rig, meter)
        ladder.load()
        with meter.measure(Phase.STEP), Checkpoint(workspace.checkpoint_file) as checkpoint:
            train(rig, ladder, batches, meter, StoppingRule(0), checkpoint)
        return meter.train_losses, ladder


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


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The job, with its base on disk."""
    return Course(tmp_path_factory.mktemp("course"))


@pytest.mark.parametrize("operation", [3, 150, 400])
def test_a_failure_on_every_rung_changes_no_loss(course: Course, tmp_path: Path, operation: int) -> None:
    """Early in a step, amid its gradients, or late: each rung's failure leads to the next, and every step's loss stays the same."""
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
    expected, _ = course.run(tmp_path / "undisturbed", course.rungs)
    failures = FailingAllocations()
    with failures:
        losses, ladder = course.run(
            tmp_path / "disturbed",
            course.rungs,
            lambda done: failures.fail_in(operation) if done < len(course.rungs) else None,
        )

    assert ladder.num_climbs == len(course.rungs) - 1 >= 7
    assert losses == pytest.approx(expected, rel=5e-3)


def read_held_out(folder: Path) -> list[float]:
    """Return the losses on held-out rows that a run reported."""
    reported = (progress.held_out_loss for progress, _ in Workspace(folder).read_progress(0))
    return [loss for loss in reported if loss is not None]


def test_a_failure_while_held_out_rows_are_measured_changes_no_loss(course: Course, tmp_path: Path) -> None:
    """Measured after each step, and failing each time a rung is left: the measurement is made again, and training goes on."""
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
    every = range(1, NUM_STEPS + 1)
    expected, _ = course.run(tmp_path / "undisturbed", course.rungs, measured_steps=every)
    failures = FailingAllocations()
    with failures:
        losses, ladder = course.run(
            tmp_path / "disturbed",
            course.rungs,
            lambda done: failures.fail_in(40) if done < len(course.rungs) else None,
            measured_steps=every,
        )

    assert ladder.num_climbs == len(course.rungs) - 1
    assert losses == pytest.approx(expected, rel=5e-3)
    measured = read_held_out(tmp_path / "disturbed")
    assert len(measured) == NUM_STEPS
    assert measured == pytest.approx(read_held_out(tmp_path / "undisturbed"), rel=5e-3)


def test_measuring_leaves_training_as_it_is(course: Course, tmp_path: Path) -> None:
    """To the last bit: the losses of all steps are the same however often held-out rows are measured in between."""
    losses = []
    for name, measured_steps in (("often", range(1, NUM_STEPS + 1)), ("once", [NUM_STEPS])):
        (tmp_path / name).mkdir()
        losses.append(course.run(tmp_path / name, course.rungs[:1], measured_steps=measured_steps)[0])

    assert losses[0] == losses[1]


def test_on_the_last_rung_the_failure_is_the_jobs(course: Course, tmp_path: Path) -> None:
    """With nowhere to go the failed allocation itself is raised."""
    failures = FailingAllocations()
    with failures, pytest.raises(RuntimeError, match="can't allocate"):
        course.run(tmp_path, course.rungs[-1:], lambda done: failures.fail_in(50) if done == 2 else None)
