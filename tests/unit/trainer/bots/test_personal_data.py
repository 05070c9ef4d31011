"""Likely personal data, by form and checksum. Every number here is invented or published as an example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.personal_data import PersonalData, find_personal_data


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jo.doe+lamp@firm.co.uk, please.", PersonalData.EMAIL),
        ("Call +44 20 7946 0018 now", PersonalData.PHONE),
        ("Call (555) 010-4567.", PersonalData.PHONE),
        ("Call 555-010-4567.", PersonalData.PHONE),
        ("お電話は03-1234-5678まで。", PersonalData.PHONE),
        ("電話番号は０３－１２３４－５６７８です", PersonalData.PHONE),  # noqa: RUF001 - full width, as people type it
        ("My card is 4111 1111 1111 1111.", PersonalData.CARD),
        ("5555555555554444", PersonalData.CARD),
        ("Pay to GB82 WEST 1234 5698 7654 32 by Monday", PersonalData.IBAN),
        ("DE89370400440532013000", PersonalData.IBAN),
    ],
)
def test_it_is_found(text: str, kind: PersonalData) -> None:
    """Each kind is found in the ways people write it."""
    assert find_personal_data(text) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "Write to name@example.com or @support.",
        "On 2026-11-24, 24.11.2026 or 05-11-2026",
        "Version 3.11.2-4, at 192.168.100.200:50071",
        "ISBN 978-3-16-148410-0",
        "Order 4111 1111 1111 1112, or 0000 0000 0000 0000",
        "GB83 WEST 1234 5698 7654 32",
        "It costs 1,200,000 or 10.000.000 for 301 rooms.",
        "",
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    """Dates, versions, prices, and numbers whose check digits are wrong are nobody's."""
    assert find_personal_data(text) == frozenset()


@given(st.integers(0, 10**14 - 1))
def test_one_wrong_digit_is_no_card(number: int) -> None:
    """Of the ten numbers that differ in the last digit just one passes the check."""
    begin = f"4{number:014}"

    assert sum(PersonalData.CARD in find_personal_data(f"{begin}{digit}") for digit in range(10)) == 1


@given(st.text(max_size=300))
def test_any_text_is_searched(text: str) -> None:
    """No text breaks the search."""
    assert find_personal_data(text) <= set(PersonalData)


def test_long_texts_of_near_hits_are_searched_in_linear_time() -> None:
    """What almost matches, over and over, ends: a search that went back and forth would not within the test's limit."""
    for near_hit in ("a.", "+1 2", "4111 ", "GB82 AAAA ", "0123 ", "a@b."):
        assert find_personal_data(near_hit * 20_000) is not None
