"""What the serving measurement says it found, and which goals it says are met."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from adaptory.core.errors import ServiceError
from bench.serve_bar import expect_seconds
from bench.serve_goals import Goal, judge
from bench.serve_plot import draw_latencies
from bench.serve_report import build_document, build_tables
from bench.serve_run import Measured, pool, run_child
from bench.serving.scenario import (
    SCENARIOS,
    SideResult,
    SideRun,
    find_scenario,
    read_result,
    read_run,
    write_json,
)

FIVE = ("output_tokens_per_second", "ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms")
NUMBERS = dict(zip(FIVE, (90.0, 300.0, 600.0, 100.0, 200.0), strict=True))
SAMPLES = {"ttft": [250.0, 300.0, 600.0]}


def measure(
    name: str, ours: dict[str, float], bare: dict[str, float], samples: dict[str, list[float]] = SAMPLES
) -> Measured:
    """Return a scenario with numbers in which the sides differ by these."""
    sides = (SideResult(2.5, {**NUMBERS, **numbers}, samples) for numbers in (ours, bare))
    return Measured(find_scenario(name), *sides)


ONE = measure(
    "one_adapter",
    {"output_tokens_per_second": 89.0, "alone_ttft_p50_ms": 202.0, "alone_base_ttft_p50_ms": 201.5},
    {"alone_ttft_p50_ms": 200.0, "alone_base_ttft_p50_ms": 120.0},
)
FLOOD = measure(
    "flood",
    {"quiet_p99_ratio": 1.2, "quiet_unanswered": 0.0},
    {"quiet_p99_ratio": 31.0, "quiet_unanswered": 0.0},
)
GAPS = {"steady_largest_gap_ms": 100.0, "steady_median_gap_of_a_second_ms": 80.0}
SWAPS = measure(
    "swaps",
    {**GAPS, "swap_largest_gap_ms": 150.0, "swap_median_gap_of_a_second_ms": 88.0},
    {**GAPS, "swap_largest_gap_ms": 100.0, "swap_median_gap_of_a_second_ms": 80.0},
    {"gap, swaps": [90.0, 150.0], "gap, steady": [80.0, 100.0], "ttft": [250.0]},
)
MEMORY = {"memory_begin_mib": 2000.0, "alone_ttft_p50_ms": 200.0, "warm_ttft_p50_ms": 200.0}
THOUSAND = measure(
    "thousand_registered",
    {**MEMORY, "memory_end_mib": 2040.0, "never_seen_ttft_p50_ms": 1400.0},
    {**MEMORY, "memory_end_mib": 2400.0, "never_seen_ttft_p50_ms": 700.0},
)
BASE = measure(
    "base",
    {"output_tokens_per_second": 88.0, "alone_ttft_p50_ms": 202.0},
    {
        "output_tokens_per_second": 400.0,
        "alone_ttft_p50_ms": 100.0,
    },
)
ALL = (BASE, ONE, FLOOD, SWAPS, THOUSAND)


def test_each_scenario_has_its_goals() -> None:
    """Those that are met and those that are missed, by the bounds that were set."""
    verdicts = {(goal.scenario, goal.what): goal.is_met for goal in judge(ALL)}

    assert verdicts == {
        ("base", "throughput, of the bare engine's"): False,
        ("base", "first token, one at a time: added"): False,
        ("base", "median first token under load: added"): True,
        ("one_adapter", "throughput, of the bare engine's"): True,
        ("one_adapter", "first token, one at a time: added"): True,
        ("one_adapter", "median first token under load: added"): True,
        ("one_adapter", "first token of a resident adapter: above the base's, on the same side"): True,
        ("flood", "quiet tenants' p99 first token, of theirs without the flood"): True,
        ("swaps", "largest token gap during swaps, of the steady one"): False,
        ("swaps", "median of each second's largest gap during swaps, of the steady one"): True,
        ("thousand_registered", "throughput, of the bare engine's"): True,
        ("thousand_registered", "first token of a never-seen adapter: above a warm one's"): False,
        ("thousand_registered", "memory at the end, of that at the begin"): True,
    }


def test_a_side_without_a_token_has_no_ratio() -> None:
    """On a machine too busy for a single token the report is made all the same, and no goal is met by it."""
    silent = measure("four_adapters", {"alone_ttft_p50_ms": 1.0}, {"alone_ttft_p50_ms": 1.0, FIVE[0]: 0.0})

    assert math.isnan(silent.ratio_throughput)
    assert not judge([silent])[0].is_met


def test_quiet_tenants_without_an_answer_miss_the_goal() -> None:
    """However soon the others' first tokens came."""
    numbers = {"quiet_p99_ratio": 1.0, "quiet_unanswered": 1.0}
    (goal,) = judge([measure("flood", numbers, {**numbers, "quiet_unanswered": 0.0})])

    assert (goal.is_met, goal.bare) == (False, 1.0)


def test_a_figure_that_could_not_be_made_meets_no_goal() -> None:
    """NaN is neither above nor below a bound."""
    unknown = Goal("flood", "ratio", "at most", 1.3, float("nan"))

    assert not unknown.is_met
    assert not replace(unknown, bound="at least").is_met


def test_the_document_has_what_programs_read() -> None:
    """Every scenario has both sides' five numbers and the ratio of their throughputs; goals carry their verdicts."""
    document = json.loads(json.dumps(build_document(ALL, settings={"seed": 0}, foreign_cpu_share=0.01)))

    assert {"date", "machine", "versions", "settings", "foreign_cpu_share", "scenarios", "goals"} == document.keys()
    for scenario in document["scenarios"]:
        assert {"name", "ours", "bare", "ratio_throughput"} <= scenario.keys()
        assert all(set(FIVE) <= scenario[side].keys() for side in ("ours", "bare"))
    assert document["scenarios"][1]["ratio_throughput"] == pytest.approx(89 / 90)
    assert all(isinstance(goal["is_met"], bool) for goal in document["goals"])


def test_a_figure_that_could_not_be_made_is_null_in_json() -> None:
    """JSON has no NaN, and readers stop at it."""
    unheard = measure(
        "flood",
        {"quiet_p99_ratio": float("nan"), "quiet_unanswered": 3.0},
        {"quiet_p99_ratio": 1.0, "quiet_unanswered": 0.0},
    )
    text = json.dumps(build_document([unheard], settings={}, foreign_cpu_share=0.0), allow_nan=False)

    assert json.loads(text)["scenarios"][0]["ours"]["quiet_p99_ratio"] is None


def test_the_tables_show_every_scenario_and_goal_and_who_disturbed() -> None:
    """A reader sees both sides, what is met and missed, and whether the machine was idle."""
    console = Console(width=170, record=True)
    console.print(build_tables(ALL, foreign_cpu_share=0.4))
    text = console.export_text()

    assert all(one.scenario.title in text for one in ALL)
    assert text.count("missed") == 4
    assert text.count(" met ") == 9
    assert "Others took 40% of the cores" in text


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """One panel for each scenario, and one of gaps where adapters change."""
    draw_latencies(ALL, tmp_path / "picture.png")

    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_are_pooled() -> None:
    """Numbers are means, samples are all of them; the rate is the one that all rounds were asked at."""
    first = SideResult(2.0, {"ttft_p50_ms": 100.0}, {"ttft": [1.0]})
    second = SideResult(2.0, {"ttft_p50_ms": 300.0}, {"ttft": [2.0, 3.0]})

    assert pool([first, second]) == SideResult(2.0, {"ttft_p50_ms": 200.0}, {"ttft": [1.0, 2.0, 3.0]})


def test_runs_and_results_pass_between_processes(tmp_path: Path) -> None:
    """What is written is what is read."""
    run = SideRun("bare", "swaps", "base", "shelf", str(tmp_path), 1.5, 3, None)
    write_json(run, tmp_path / "run.json")
    write_json(SWAPS.ours, tmp_path / "result.json")

    assert read_run(tmp_path / "run.json") == run
    assert read_result(tmp_path / "result.json") == SWAPS.ours


def test_a_child_tells_its_phases_and_its_failure_the_end_of_its_log(tmp_path: Path) -> None:
    """Every line of its output is a phase; a failure carries what it logged last."""
    phases: list[str] = []
    run_child(["/bin/sh", "-c", "echo start; echo open"], tmp_path, phases.append)
    assert phases == ["start", "open"]

    with pytest.raises(ServiceError, match="no engine today"):
        run_child(["/bin/sh", "-c", "echo no engine today >&2; exit 3"], tmp_path, phases.append)


def test_scenarios_have_names_of_their_own_and_phases_take_time() -> None:
    """A name finds its scenario; a phase of load is expected to take longer than it lasts, for answers under way."""
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert expect_seconds("open", 15.0) == pytest.approx(20.0)
