"""Laws of a bucket, at any times and whatever is taken."""

from copy import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_svc.usage.token_bucket import TokenBucket

rates = st.integers(1, 10_000)
pauses_s = st.floats(0, 120)
amounts = st.integers(0, 5_000)
histories = st.lists(st.tuples(pauses_s, amounts), max_size=20)


@given(rates, st.lists(pauses_s, min_size=1, max_size=30))
def test_no_more_begins_than_a_bucket_and_what_refilled(per_minute: int, pauses: list[float]) -> None:
    """Between any two moments; whoever is refused is told when it would not be."""
    bucket, now_s, begun_s = TokenBucket(per_minute, 0.0), 0.0, []
    for pause_s in pauses:
        now_s += pause_s
        if not (wait_s := bucket.wait_s(1, now_s)):
            bucket.take(1, now_s)
            begun_s.append(now_s)
        else:
            assert not copy(bucket).wait_s(1, now_s + wait_s)
            assert copy(bucket).wait_s(1, now_s + wait_s / 2)
    for place, first_s in enumerate(begun_s):
        assert len(begun_s) - place <= per_minute + per_minute * (now_s - first_s) / 60 + 1e-6


@given(rates, histories)
def test_what_is_taken_too_much_is_owed(per_minute: int, history: list[tuple[float, int]]) -> None:
    """Over any time no more is taken than was there, what refilled, and the last debt; it never holds more than a minute's."""
    bucket, now_s, total = TokenBucket(per_minute, 0.0), 0.0, 0
    for pause_s, amount in history:
        now_s += pause_s
        bucket.take(amount, now_s)
        total += amount
        level = bucket.level(now_s)
        assert level <= per_minute
        assert total <= per_minute * (1 + now_s / 60) - level + 1e-3


@given(rates, histories, st.integers(1, 5_000))
def test_what_is_given_back_was_never_taken(per_minute: int, history: list[tuple[float, int]], amount: int) -> None:
    """At the same moment."""
    bucket, now_s = TokenBucket(per_minute, 0.0), 0.0
    for pause_s, taken in history:
        now_s += pause_s
        bucket.take(taken, now_s)
    before = bucket.level(now_s)
    bucket.take(amount, now_s)
    bucket.take(-amount, now_s)

    assert bucket.level(now_s) == pytest.approx(before, abs=1e-6)


@given(rates, rates, amounts)
def test_another_size_never_makes_anybody_wait_longer_for_a_debt(before: int, after: int, amount: int) -> None:
    """A larger bucket has more at once, by the difference; a smaller one no more than it holds."""
    bucket = TokenBucket(before, 0.0)
    bucket.take(amount, 0.0)
    level, wait_s = bucket.level(0.0), bucket.wait_s(0, 0.0)
    bucket.resize(after, 0.0)

    assert bucket.wait_s(0, 0.0) <= wait_s + 1e-6
    assert bucket.level(0.0) <= after
    if after >= before:
        assert bucket.level(0.0) == level + after - before


@given(rates, histories)
def test_a_clock_that_goes_back_refills_nothing(per_minute: int, history: list[tuple[float, int]]) -> None:
    """Two threads may read a clock and come in the other order."""
    bucket = TokenBucket(per_minute, 0.0)
    for pause_s, amount in history:
        bucket.take(amount, 1000.0)
        level = bucket.level(1000.0)
        assert bucket.level(1000.0 - pause_s) == level
