"""Questions put as people type them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.rewording import reword


@given(st.text(max_size=200))
def test_every_text_is_reworded_and_always_alike(question: str) -> None:
    """Whatever is asked, in any script, it is asked otherwise, and the same way each time."""
    assert reword(question) != question
    assert reword(question) == reword(question)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    st.sampled_from(["Does room {} have a bath?", "{} 号室は?"]),
)
def test_numbers_stay(numbers: list[int], form: str) -> None:
    """A number is what makes it this question."""
    question = form.format(" and ".join(map(str, numbers)))

    assert re.findall(r"[0-9]+", reword(question)) == re.findall(r"[0-9]+", question)


@pytest.mark.parametrize("name", ["Alexander", "Cityroomz", "Arbury"])
def test_names_stay(name: str) -> None:
    """Keys slip in common words only."""
    assert all(name.lower() in reword(f"Is there {thing} near {name}?") for thing in ("parking", "a museum", "music"))


def test_keys_slip_in_some_questions_and_not_in_all() -> None:
    """Both are judged by: words as they were, and words with two letters swapped."""
    things = ["parking", "breakfast", "laundry", "elevators", "towels", "museums", "concerts", "gardens"]
    kept = [thing in reword(f"Is there {thing}?") for thing in things]

    assert True in kept
    assert False in kept


def test_words_that_say_little_go() -> None:
    """What is left is what a hurried person types."""
    assert "check-in" in reword("What is the time of check-in there?")
    assert " of " not in reword("What is the time of check-in there?")
