"""Shows a training job while it runs: steps, loss, speed, time left, and peak memory against the limit.

On a terminal two bars move; in a log there is a line for every phase and every tenth of the steps. Each measurement of the loss on
held-out rows has a line in both.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from adaptory.cli.sizes import format_bytes
from adaptory.trainer.v1.training_job_pb2 import TrainingEvent, TrainingJob, TrainingProgress

_PHASES = {"load": "Loading", "step": "Training", "evaluate": "Evaluating", "save": "Saving"}
_LINES_PER_JOB = 10
_MINUTE_S = 60


class TrainingView(Protocol):
    """Where events of a job are shown."""

    def show(self, event: TrainingEvent) -> None:
        """Show one event."""


def show_training(console: Console, limit_bytes: int, events: Iterable[TrainingEvent]) -> None:
    """Show every event of a job as it comes. `limit_bytes` is the job's memory limit, 0 when it has none."""
    with open_view(console, limit_bytes) as view:
        for event in events:
            view.show(event)


def open_view(console: Console, limit_bytes: int) -> AbstractContextManager[TrainingView]:
    """Return the view that suits the console; it stays on screen when the block ends."""
    return _open_bars(console, limit_bytes) if console.is_terminal else _open_lines(console, limit_bytes)


@contextmanager
def _open_bars(console: Console, limit_bytes: int) -> Iterator[TrainingView]:
    with Progress(
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[told]}"), console=console
    ) as bars:
        yield _Bars(bars, limit_bytes)


@contextmanager
def _open_lines(console: Console, limit_bytes: int) -> Iterator[TrainingView]:
    yield _Lines(console, limit_bytes)


class _Bars:
    def __init__(self, bars: Progress, limit_bytes: int) -> None:
        self._bars = bars
        self._limit_bytes = limit_bytes
        self._steps = bars.add_task("Waiting", total=None, told="for a worker")
        self._memory = bars.add_task("Peak memory", total=limit_bytes or None, told="")

    def show(self, event: TrainingEvent) -> None:
        match event.WhichOneof("event"):
            case "progress":
                self._show_progress(event.progress)
            case "state":
                self._bars.update(self._steps, description=_state_name(event.state))
            case "message":
                self._print(event.message)
            case "climb":
                self._print(event.climb.message)

    def _show_progress(self, progress: TrainingProgress) -> None:
        if progress.HasField("held_out_loss"):
            self._print(f"step {progress.step}: {_describe_held_out(progress)}")
        phase = _PHASES.get(progress.phase, progress.phase)
        total, told = progress.num_steps or None, _describe_steps(progress)
        self._bars.update(self._steps, description=phase, total=total, completed=progress.step, told=told)
        if progress.peak_bytes:
            told = describe_peak(progress.peak_bytes, self._limit_bytes)
            self._bars.update(self._memory, completed=progress.peak_bytes, told=told)

    def _print(self, line: str) -> None:
        self._bars.console.print(Text(line, style="dim"))


class _Lines:
    def __init__(self, console: Console, limit_bytes: int) -> None:
        self._console = console
        self._limit_bytes = limit_bytes
        self._phase = ""
        self._next_step = 0

    def show(self, event: TrainingEvent) -> None:
        match event.WhichOneof("event"):
            case "progress":
                self._show_progress(event.progress)
            case "state":
                self._print(_state_name(event.state))
            case "message":
                self._print(event.message)
            case "climb":
                self._print(event.climb.message)

    def _show_progress(self, progress: TrainingProgress) -> None:
        is_last = progress.step == progress.num_steps
        due = progress.step >= self._next_step or is_last or progress.HasField("held_out_loss")
        if progress.phase == self._phase and not (due and progress.phase == "step"):
            return
        self._phase = progress.phase
        self._next_step = progress.step + max(1, math.ceil(progress.num_steps / _LINES_PER_JOB))
        parts = [_PHASES.get(progress.phase, progress.phase), _describe_steps(progress), _describe_held_out(progress)]
        if progress.peak_bytes:
            parts.append(f"peak memory {describe_peak(progress.peak_bytes, self._limit_bytes)}")
        self._print(" · ".join(part for part in parts if part))

    def _print(self, line: str) -> None:
        self._console.print(Text(f"  {line}"), soft_wrap=True)


def describe_peak(peak_bytes: int, limit_bytes: int) -> str:
    """Return the peak, against the limit where there is one."""
    if not limit_bytes:
        return format_bytes(peak_bytes)
    return f"{format_bytes(peak_bytes)} of {format_bytes(limit_bytes)} ({peak_bytes / limit_bytes:.0%})"


def format_seconds(seconds: float) -> str:
    """Return `42 s` or `3 min 05 s`."""
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _describe_steps(progress: TrainingProgress) -> str:
    if progress.phase != "step" or not progress.step:
        return ""
    return (
        f"step {progress.step}/{progress.num_steps} · loss {progress.loss:.3f} · "
        f"{progress.tokens_per_second:,.0f} tokens/s · {format_seconds(progress.eta_seconds)} left"
    )


def _describe_held_out(progress: TrainingProgress) -> str:
    return f"held-out loss {progress.held_out_loss:.3f}" if progress.HasField("held_out_loss") else ""


def _state_name(state: TrainingJob.State) -> str:
    return TrainingJob.State.Name(state).removeprefix("STATE_").capitalize()
