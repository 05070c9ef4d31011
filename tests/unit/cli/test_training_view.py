"""How a training job is shown."""

import io

import pytest
from rich.console import Console

from adaptory.cli.training_view import describe_peak, format_seconds, show_training
from adaptory.trainer.v1.training_job_pb2 import MemoryClimb, TrainingEvent, TrainingJob, TrainingProgress

CLIMB = "Out of memory in phase step after 2 steps; it goes on with micro-batches of 4 rows."
GIB = 2**30


def _events(num_steps: int) -> list[TrainingEvent]:
    steps = [
        TrainingProgress(
            phase="step",
            step=step,
            num_steps=num_steps,
            loss=1 / step,
            tokens_per_second=400,
            eta_seconds=65,
            peak_bytes=GIB // 2,
        )
        for step in range(1, num_steps + 1)
    ]
    return [
        TrainingEvent(state=TrainingJob.STATE_RUNNING),
        *(TrainingEvent(progress=progress) for progress in steps),
        TrainingEvent(message="The device is busy."),
        TrainingEvent(climb=MemoryClimb(phase="step", step=2, micro_batch_rows=4, message=CLIMB)),
        TrainingEvent(state=TrainingJob.STATE_SUCCEEDED),
    ]


def _show(num_steps: int, *, is_terminal: bool) -> str:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=120, color_system=None)
    show_training(console, GIB, _events(num_steps))
    return shown.getvalue()


def test_terminal_shows_steps_and_memory_against_the_limit() -> None:
    """The last frame has loss, speed, time left, and the peak beside the limit."""
    shown = _show(4, is_terminal=True)
    assert "step 4/4 · loss 0.250 · 400 tokens/s · 1 min 05 s left" in shown
    assert "512 MiB of 1,024 MiB (50%)" in shown
    assert "The device is busy." in shown


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_climb_is_told_in_its_own_words(*, is_terminal: bool) -> None:
    """Whoever watches reads that memory ran out and how the job goes on."""
    assert CLIMB in _show(4, is_terminal=is_terminal)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_each_measurement_of_held_out_rows_has_a_line(*, is_terminal: bool) -> None:
    """It stays to be read, also between the tenths of the steps."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=120, color_system=None)
    steps = [TrainingProgress(phase="step", step=step, num_steps=100, loss=1 / step) for step in range(1, 6)]
    measured = TrainingProgress(held_out_loss=0.75)
    measured.MergeFrom(steps[3])
    events = [TrainingEvent(progress=progress) for progress in (*steps[:4], measured, steps[4])]
    show_training(console, GIB, events)

    lines = [line for line in shown.getvalue().splitlines() if "held-out loss 0.750" in line]
    assert len(lines) == 1
    assert "step 4" in lines[0]


def test_log_gets_a_line_for_every_tenth_of_the_steps() -> None:
    """A long job does not flood a log, and its last step is always told."""
    lines = [line for line in _show(100, is_terminal=False).splitlines() if "· step " in line]
    assert len(lines) == 11
    assert "step 100/100" in lines[-1]


def test_peak_without_a_limit_is_a_size() -> None:
    """A job without a limit is shown without a share of it."""
    assert describe_peak(GIB // 2, 0) == "512 MiB"


def test_seconds_are_written_as_people_say_them() -> None:
    """Minutes appear when there are any."""
    assert [format_seconds(seconds) for seconds in (4.4, 59.6, 605)] == ["4 s", "1 min 00 s", "10 min 05 s"]
