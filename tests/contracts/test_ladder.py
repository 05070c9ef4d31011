"""The climb: allocations that fail, wherever they fail, cost memory techniques but no batch and no update."""

from pathlib import Path

import pytest

from tests.contracts.training_course import NUM_STEPS, Course, FailingAllocations, read_held_out

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The job, with its base on disk."""
    return Course(tmp_path_factory.mktemp("course"))


@pytest.mark.parametrize("operation", [3, 150, 400])
def test_a_failure_on_every_rung_changes_no_loss(course: Course, tmp_path: Path, operation: int) -> None:
    """Early in a step, amid its gradients, or late: each rung's failure leads to the next, and every step's loss stays the same."""
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


def test_a_failure_while_held_out_rows_are_measured_changes_no_loss(course: Course, tmp_path: Path) -> None:
    """Measured after each step, and failing each time a rung is left: the measurement is made again, and training goes on."""
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
        losses.append(course.run(tmp_path / name, course.rungs[:1], measured_steps=measured_steps)[0])

    assert losses[0] == losses[1]


def test_on_the_last_rung_the_failure_is_the_jobs(course: Course, tmp_path: Path) -> None:
    """With nowhere to go the failed allocation itself is raised."""
    failures = FailingAllocations()
    with failures, pytest.raises(RuntimeError, match="can't allocate"):
        course.run(tmp_path, course.rungs[-1:], lambda done: failures.fail_in(50) if done == 2 else None)
