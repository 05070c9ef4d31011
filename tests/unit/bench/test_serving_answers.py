"""The figures that are made of what was heard."""

import math

import pytest

from bench.serving.answers import (
    Answer,
    Latencies,
    find_largest_gaps_ms,
    measure_request_rate,
    measure_throughput,
    percentile,
    to_numbers,
)


def test_percentiles_lie_between_two_values() -> None:
    """They are numpy's linear ones; of nothing there is none."""
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], 50) == 3.0
    assert percentile([10.0, 20.0], 99) == pytest.approx(19.9)
    assert math.isnan(percentile([], 50))


def test_an_asker_waits_from_when_it_was_due() -> None:
    """A load generator that is late cannot make a side look fast."""
    late = Answer(0, due_s=1.0, heard_s=[1.5, 1.6, 1.8], num_tokens=3)
    found = Latencies.of([late, Answer(1, due_s=2.0)])

    assert found.ttft_p50_ms == pytest.approx(500)
    assert found.itl_p50_ms == pytest.approx(150)
    assert found.itl_p99_ms == pytest.approx(199)


def test_tokens_count_in_the_phase_they_came_in() -> None:
    """An answer of four tokens in two pieces, one of them too late, counts for two: the side's own count is what is shared out."""
    whole = Answer(0, 0.0, heard_s=[1.0, 2.0, 3.0], num_tokens=3)
    half = Answer(0, 0.0, heard_s=[9.0, 11.0], num_tokens=4)
    cut = Answer(0, 0.0, heard_s=[4.0, 5.0])

    assert measure_throughput([whole, half, cut], 10.0) == pytest.approx((3 + 2 + 2) / 10)
    assert measure_request_rate([whole, half, Answer(0, 0.0)], 10.0) == pytest.approx(1.5 / 10)


def test_the_largest_gap_of_each_second() -> None:
    """A gap belongs to the second in which it ended, of whichever stream it was; seconds without one are left out."""
    one = Answer(0, 0.0, heard_s=[0.1, 0.2, 0.9, 2.5])
    other = Answer(1, 0.0, heard_s=[0.3, 0.6, 2.6, 5.5])

    assert find_largest_gaps_ms([one, other], 5.0) == pytest.approx([700, 2000])


def test_a_side_reports_the_five_numbers_and_its_own() -> None:
    """Names are those that programs read."""
    numbers = to_numbers(90.0, Latencies(1.0, 2.0, 3.0, 4.0), {"memory_end_mib": 5.0})

    assert numbers == {
        "output_tokens_per_second": 90.0,
        "ttft_p50_ms": 1.0,
        "ttft_p99_ms": 2.0,
        "itl_p50_ms": 3.0,
        "itl_p99_ms": 4.0,
        "memory_end_mib": 5.0,
    }
