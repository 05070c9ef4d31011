"""What the LoRA measurement makes of its rounds."""

import pytest

from bench.lora_case import list_scenarios
from bench.lora_report import Parting, Row
from bench.side.engine import Answer, RunResult
from bench.side.rounds import Round, Rounds


def test_round_counts_all_tokens_and_the_median_first_token() -> None:
    """Throughput is of all streams together; the first token is the median stream's."""
    answers = [Answer([1, 2], 0.1, None), Answer([3, 4], 0.3, None), Answer([5, 6], 0.2, None)]

    measured = Round.from_result(RunResult(answers, seconds=1.5))

    assert measured.output_tokens_per_second == pytest.approx(4.0)
    assert measured.ttft_p50_ms == pytest.approx(200.0)


def test_median_of_the_rounds_is_told() -> None:
    """Each measure is the median of its rounds."""
    rounds = Rounds((Round(10.0, 50.0), Round(12.0, 60.0), Round(99.0, 20.0)))

    assert rounds.median == Round(12.0, 50.0)


def test_sides_are_compared_within_a_round() -> None:
    """A machine that slows down between rounds changes no ratio, though it changes what each side did."""
    others = Rounds((Round(100.0, 10.0), Round(50.0, 20.0), Round(80.0, 12.5)))
    ours = Rounds((Round(90.0, 11.0), Round(45.0, 22.0), Round(72.0, 13.75)))

    assert ours.throughput_ratio(others) == pytest.approx(0.9)
    assert ours.ttft_ratio(others) == pytest.approx(1.1)


def test_row_tells_its_ratios_and_where_answers_part() -> None:
    """The JSON of a scenario has the three sides, our ratios to both others, and every place where answers part."""
    partings: list[Parting | None] = [None, Parting(3, 0.01)]
    base, bare, ours = (Rounds((taken,)) for taken in (Round(100.0, 40.0), Round(30.0, 90.0), Round(90.0, 50.0)))
    row = Row("1 adapter", base, bare, ours, partings, [None, Parting(5, 0.25)])

    told = row.as_json()

    assert told["ours"] == {"output_tokens_per_second": 90.0, "ttft_p50_ms": 50.0}
    assert (told["ratio_to_base"], told["ratio_to_bare"], told["ttft_ratio_to_base"]) == (0.9, 3.0, 1.25)
    assert (told["same_answers"], told["partings"]) == (1, [{"place": 3, "gap": 0.01}])
    assert told["bare_alone"] == {"same_answers": 1, "widest_gap": 0.25}


def test_every_adapter_of_a_scenario_has_a_stream() -> None:
    """Scenarios differ in their names, and none counts adapters that nobody asks for."""
    scenarios = list(list_scenarios())

    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    for scenario in scenarios:
        asked = {scenario.adapter_of(stream) for stream in range(scenario.num_streams)}
        assert len(asked) == max(scenario.num_adapters, 1)
