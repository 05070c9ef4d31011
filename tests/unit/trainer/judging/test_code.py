"""Scores of completed code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.answers import Criteria, score_answers
from trainer_svc.judging.code import measure_similarity, parses
from trainer_svc.judging.scores import CodePlace, Judged

PLACE = CodePlace("def add(a, b):\n", "\n", is_python=True, test="assert add(2, 3) == 5")
RIGHT = "    return a + b"


def complete(base: str, adapter: str, place: CodePlace | None = PLACE) -> Judged:
    """Return one place with its completions."""
    return Judged("", "", RIGHT, base, adapter, place=place)


def test_code_is_scored_by_likeness_and_syntax() -> None:
    """Another right completion is no exact match, and one that does not parse is nothing."""
    judged = [complete("    return a +", "    return b + a"), complete("    return a - b", RIGHT + "\n")]
    scores = {
        score.name: (score.base, score.adapter) for score in score_answers(judged, Criteria(BotKind.CODE_COMPLETION))
    }

    assert list(scores) == ["edit_similarity", "exact_match", "parses"]
    assert (scores["exact_match"], scores["parses"]) == ((0, 0.5), (0.5, 1))
    assert scores["edit_similarity"][0] < scores["edit_similarity"][1] < 1


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (PLACE, {"edit_similarity", "exact_match", "parses"}),
        (CodePlace("def add(a, b:\n", "\n", is_python=True), {"edit_similarity", "exact_match"}),
        (CodePlace("int add() {\n", "}\n", is_python=False), {"edit_similarity", "exact_match"}),
        (None, {"edit_similarity", "exact_match"}),
    ],
)
def test_only_what_can_be_measured_is_scored(place: CodePlace | None, names: set[str]) -> None:
    """Files of other languages are not parsed, and files that did not parse before are no measure."""
    scores = score_answers([complete("x", RIGHT, place)], Criteria(BotKind.CODE_COMPLETION))

    assert {score.name for score in scores} == names


@given(st.text(), st.text())
def test_similarity_is_a_share_and_takes_both_alike(one: str, other: str) -> None:
    """Between 0 and 1, symmetric, and 1 for equal texts alone."""
    assert 0 <= measure_similarity(one, other) == measure_similarity(other, one) <= 1
    assert (measure_similarity(one, other) == 1) is (one == other)


@given(st.text())
def test_any_text_parses_or_does_not(text: str) -> None:
    """No text breaks the judge."""
    assert parses(text) in {True, False}


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 20_000 + "1", "\0", "x = '\\d'"])
def test_texts_that_are_hard_on_a_parser_do_not_break_it(text: str) -> None:
    """Nested beyond reason, not text at all, or only warned of."""
    assert parses(text) is (text == "x = '\\d'")
