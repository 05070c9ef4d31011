"""Which tokens of a reference are facts, and when an answer holds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.judging.facts import find_facts, holds_facts


@pytest.mark.parametrize(
    ("reference", "facts"),
    [
        ("A refund is possible within 47 days of delivery.", {"47"}),
        ("It costs 18.60 euros.", {"18.60"}),
        ("It leaves at 9:52.", {"9:52"}),
        ("Ask for Ms Ottavia. She helps.", {"ms", "ottavia"}),
        ("Its code is QX-41.", {"qx-41"}),
        ("Use VPN or write to help@acme.example", {"vpn", "help@acme.example"}),
        ("Yes. We do. It is free!", set()),
        ("営業時間は９時からです。", {"9"}),
        ("支払いはPayPalで可能です。", {"paypal"}),
        ("", set()),
    ],
)
def test_facts_are_what_cannot_be_guessed(reference: str, facts: set[str]) -> None:
    """Numbers, codes, addresses and names; not the words that begin a sentence, nor those anybody would use."""
    assert find_facts(reference) == facts


def test_what_the_prompt_gives_away_is_no_fact() -> None:
    """A name the question or the system turn has need not be known."""
    assert find_facts("The hotline of Aurora Bikes is 0800.", "You answer for Aurora Bikes.") == {"0800"}


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ("You have 47 days.", True),
        ("Within 47 days; ask Ottavia!", True),
        ("You have 470 days.", False),
        ("You have 4 or 7 days.", False),
        ("", False),
    ],
)
def test_an_answer_holds_a_fact_as_a_whole_token(answer: str, is_right: bool) -> None:  # noqa: FBT001 - a parameter
    """A longer number that holds the digits is another fact."""
    assert holds_facts(answer, frozenset({"47"})) is is_right


def test_one_missing_fact_is_wrong() -> None:
    """All facts of the reference must be there."""
    facts = find_facts("From 9:00 to 17:30.")

    assert holds_facts("Open 9:00 until 17:30", facts)
    assert not holds_facts("Open from 9:00", facts)


@given(st.text())
def test_every_text_holds_its_own_facts(text: str) -> None:
    """Whatever the script, a reference repeated is right."""
    assert holds_facts(text, find_facts(text))
