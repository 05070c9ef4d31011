"""The scenarios, by name, and what one run of a side is asked for and leaves: both pass between processes as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.serving.engine_size import MAX_LORAS

SideName = Literal["ours", "bare"]
Kind = Literal["steady", "flood", "swaps"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked of both sides, and the engine's slots; where no speaker has an adapter it is the base alone.

    A tenant that floods puts so many questions into each prompt.
    """

    name: str
    title: str
    kind: Kind
    num_speakers: int
    num_slots: int = MAX_LORAS
    num_flood_questions: int = 1


SCENARIOS = (
    Scenario("base", "the base without an adapter", "steady", 0),
    Scenario("one_adapter", "1 adapter", "steady", 1),
    Scenario("four_adapters", "4 adapters", "steady", 4),
    Scenario("sixteen_on_four_slots", f"16 adapters on {MAX_LORAS} slots", "steady", 16),
    Scenario("thousand_registered", "1,000 registered adapters", "steady", 1000),
    Scenario("flood", "one tenant floods at 20 times its share, nine are quiet, a slot for each", "flood", 10, 10),
    Scenario("flood_of_long_prompts", "as flood, of prompts some 20 times as long", "flood", 10, 10, 20),
    Scenario("swaps", "a promotion every second", "swaps", 3),
)


@dataclass(frozen=True, slots=True)
class SideRun:
    """One run of one side. `rate` in requests a second is what the run of ours before it found, None for ours itself."""

    side: SideName
    scenario: str
    base: str
    shelf: str
    folder: str
    seconds: float
    seed: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class SideResult:
    """What a run found: `numbers` as `answers.to_numbers` makes them; the milliseconds behind them by what they are of."""

    rate: float
    numbers: dict[str, float]
    samples: dict[str, list[float]] = field(default_factory=dict)


def write_json(value: SideRun | SideResult, file: Path) -> None:
    """Write it for the other process."""
    file.write_text(json.dumps(asdict(value)), encoding="utf-8")


def read_run(file: Path) -> SideRun:
    """Read it back."""
    return SideRun(**_read(file))


def read_result(file: Path) -> SideResult:
    """Read it back."""
    return SideResult(**_read(file))


def find_scenario(name: str) -> Scenario:
    """Return the scenario of a name that is known."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values
