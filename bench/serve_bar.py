"""The progress bar of the serving measurement: in seconds that its phases are expected to take, so that the time left is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.serve_run import Effort, OnPhase
from bench.serving.scenario import Kind, Scenario, SideName

_NUM_SIDES = 2
# On two cores, beside the phases whose length is given: the engine's start, and requests of one token.
_EXPECTED_S = {"start": 30.0, "warm-up": 10.0, "one at a time": 6.0, "never seen": 8.0}
_PHASES: dict[Kind, tuple[str, ...]] = {
    "steady": ("start", "warm-up", "one at a time", "saturated", "open"),
    "flood": ("start", "warm-up", "quiet", "flood"),
    "swaps": ("start", "warm-up", "steady", "swaps"),
}


@contextmanager
def open_bar(scenarios: Sequence[Scenario], effort: Effort) -> Iterator[OnPhase]:
    """Show how far the runs are while the block runs; what is yielded is told of every phase that begins."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        runs_s = [
            sum(expect_seconds(phase, effort.seconds) for phase in _PHASES[scenario.kind]) for scenario in scenarios
        ]
        bar = progress.add_task("Starting", total=_NUM_SIDES * effort.rounds * sum(runs_s))
        current_s = 0.0

        def show(side: SideName, scenario: Scenario, phase: str) -> None:
            nonlocal current_s
            progress.update(bar, advance=current_s, description=f"{scenario.name}, {side}: {phase}")
            current_s = expect_seconds(phase, effort.seconds)

        yield show


def expect_seconds(phase: str, seconds: float) -> float:
    """Return what a phase takes where the phases of load have so many seconds; answers under way at their end take a third more."""
    return _EXPECTED_S.get(phase, seconds * 4 / 3)
