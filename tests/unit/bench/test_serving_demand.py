"""What the serving measurement asks: drawn from a seed, as often and as soon as it says."""

import random
from collections import Counter
from itertools import islice

import pytest

from bench.serving.demand import Ask, Zipf, draw_arrivals, draw_asks, draw_flood, list_first_words


def _draw(seed: int, num: int) -> list[Ask]:
    return list(islice(draw_arrivals(random.Random(seed), Zipf(range(50), 1.0), per_second=4.0), num))


def test_both_sides_are_asked_the_same() -> None:
    """One seed makes one sequence of requests, with their times; another makes another."""
    assert _draw(7, 200) == _draw(7, 200)
    assert _draw(7, 200) != _draw(8, 200)


def test_arrivals_come_by_the_rate_and_in_order() -> None:
    """Times only rise, and in the long run there are as many as the rate says."""
    due = [ask.due_s for ask in _draw(0, 8000)]

    assert due == sorted(due)
    assert 8000 / due[-1] == pytest.approx(4.0, rel=0.05)


def test_speakers_are_asked_by_zipf() -> None:
    """The second is asked half as often as the first, the tenth a tenth; with an exponent of 0 all are asked alike."""
    chance = random.Random(1)
    zipf = Zipf(range(1000), 1.0)
    asked = Counter(zipf.draw(chance) for _ in range(20_000))
    alike = Counter(Zipf((3, 5), 0).draw(chance) for _ in range(4000))

    assert asked[1] / asked[0] == pytest.approx(1 / 2, rel=0.15)
    assert asked[9] / asked[0] == pytest.approx(1 / 10, rel=0.25)
    assert alike[3] / alike[5] == pytest.approx(1, rel=0.15)


def test_prompts_hardly_repeat_and_answers_have_nearly_one_length() -> None:
    """A cache of prompts has little to answer, and no stream is much longer than another."""
    asks = list(islice(draw_asks(random.Random(0), Zipf((0,), 1.0)), 500))

    assert len({ask.question for ask in asks}) > 490
    assert {ask.max_tokens for ask in asks} == set(range(24, 41))
    assert {ask.due_s for ask in asks} == {0.0}


def test_a_flooder_asks_by_its_own_rate_and_quiet_ones_keep_theirs() -> None:
    """The quiet tenants' requests are in the flood what they would be without it, and all come in the order of their times."""
    asks = draw_flood(random.Random(3), {1: 1.0, 2: 1.0, 0: 20.0}, seconds=200.0)
    alone = draw_flood(random.Random(3), {1: 1.0, 2: 1.0}, seconds=200.0)
    asked = Counter(ask.speaker for ask in asks)

    assert [ask for ask in asks if ask.speaker] == alone
    assert asks == sorted(asks, key=lambda ask: ask.due_s)
    assert asked[0] / asked[1] == pytest.approx(20, rel=0.2)
    assert asks[-1].due_s < 200.0


def test_first_words_are_requests_of_one_token() -> None:
    """One for each speaker, in the order given."""
    asks = list_first_words((4, -1, 4), random.Random(0))

    assert [(ask.speaker, ask.max_tokens) for ask in asks] == [(4, 1), (-1, 1), (4, 1)]
