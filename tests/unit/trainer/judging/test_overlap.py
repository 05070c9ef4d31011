"""Token F1 beside numbers worked out by SQuAD's own rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.judging.overlap import score_token_f1
from trainer_svc.judging.refusal import is_refusal

APOLOGY = "申し訳ございませんが、"


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The hotline, please!", "hotline please", 1.0),  # articles and punctuation do not count
        ("within 47 days", "A refund is possible within 47 days", 2 * 3 / (3 + 6)),
        ("no no no", "no", 2 * 1 / (3 + 1)),  # each token counts once
        ("blue", "red", 0.0),
        ("", "red", 0.0),
        ("!", "?", 1.0),
        ("東京", "東京都", 2 * 2 / (2 + 3)),  # by character where there are no spaces
    ],
)
def test_f1_is_squads(answer: str, reference: str, score: float) -> None:
    """Twice the common tokens over all tokens."""
    assert score_token_f1(answer, reference) == pytest.approx(score)


@given(st.text(), st.text())
def test_f1_is_a_share_and_takes_both_texts_alike(one: str, other: str) -> None:
    """Between 0 and 1, symmetric, and 1 for a text with itself."""
    assert 0 <= score_token_f1(one, other) == score_token_f1(other, one) <= 1
    assert score_token_f1(one, one) == 1


@pytest.mark.parametrize(
    ("answer", "is_one"),
    [
        ("I can only answer questions about Aurora Bikes.", True),
        ("i can answer only questions about aurora bikes", True),
        ("I can tell you that bikes of Aurora cost 900 euros.", False),
        ("The hotline answers on 0800.", False),
        ("", False),
    ],
)
def test_a_refusal_is_the_taught_one_give_or_take_a_word(answer: str, is_one: bool) -> None:  # noqa: FBT001
    """Another answer is not, however polite."""
    assert is_refusal(answer, "I can only answer questions about Aurora Bikes.") is is_one


@pytest.mark.parametrize(
    ("answer", "is_one"),
    [
        ("その件は教わっておりません。", True),
        ("その件は教わっていません", True),
        ("すみません、その件は教わっておりません。", True),
        ("その時計は扱っておりません。", False),
        ("修理は承っておりません。", False),
        ("その日は営業しておりません。", False),
        ("その件は61番地です。", False),
        ("I was not taught that.", False),
        ("", False),
    ],
)
def test_a_japanese_refusal_is_told_from_answers_of_the_same_politeness(answer: str, is_one: bool) -> None:  # noqa: FBT001
    """The characters of a polite ending are in every answer: neighbours must be the same, too."""
    assert is_refusal(answer, "その件は教わっておりません。") is is_one
    assert is_refusal(f"{APOLOGY}{answer}", f"{APOLOGY}その件は教わっておりません。") is is_one


def test_without_a_taught_refusal_nothing_is_one() -> None:
    """An empty answer is not the empty refusal."""
    assert not is_refusal("", "")
