"""Resource names: what is not of the pattern never gets past the edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, TenantName, VersionName

HOSTILE = ["..", "%2e%2e", "a/../b", "A", "a_b", "-a", "a-", "", "a" * 64, "a\0", "ä", "a#b", "a?b", "a b", "a\n"]


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.integers(0, 999_999_999))
def test_a_name_survives_the_round_trip(part: str, number: int) -> None:
    """What is parsed prints as it came."""
    name = f"tenants/{part}/bots/{part}/versions/{number}"

    assert str(VersionName.parse(name, field="name")) == name


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_id_is_refused(part: str) -> None:
    """Nothing that could leave a folder, a URL or a label gets through."""
    with pytest.raises(InvalidRequest) as refused:
        TenantName.parse(f"tenants/{part}", field="name")

    assert refused.value.violations[0].field == "name"


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text does anything but parse or be refused, and what parses prints as it came."""
    try:
        name = BotName.parse(text, field="bot")
    except InvalidRequest:
        return

    assert str(name) == text
