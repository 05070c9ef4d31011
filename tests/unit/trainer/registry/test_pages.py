"""Pages of lists."""

import pytest

from adaptory.core.errors import InvalidRequest
from trainer_svc.registry.pages import MAX_PAGE_SIZE, PageRequest


def read_all(items: list[int], page_size: int) -> list[list[int]]:
    """Page through numbers that rise."""
    pages, token = [], ""
    while not pages or token:
        request = PageRequest.parse(page_size, token, scope="numbers")
        after = request.after_number() or 0
        page = request.cut([item for item in items if item > after][: request.size + 1], key=str)
        pages.append(list(page.items))
        token = page.next_token
    return pages


def test_pages_hold_every_item_once() -> None:
    """Following the tokens shows the whole list in order, and the last page has no token."""
    assert read_all([1, 2, 3, 4, 5], page_size=2) == [[1, 2], [3, 4], [5]]


def test_a_full_last_page_has_no_token() -> None:
    """A list that ends with its page does not lead to an empty one."""
    assert read_all([1, 2, 3, 4], page_size=2) == [[1, 2], [3, 4]]


def test_sizes_are_clamped() -> None:
    """Zero takes the default, too many the maximum."""
    sizes = [PageRequest.parse(size, "", scope="numbers").size for size in (0, 7, 10**6)]

    assert sizes == [100, 7, MAX_PAGE_SIZE]


def test_a_negative_size_is_refused() -> None:
    """A size below zero is named as the bad field."""
    with pytest.raises(InvalidRequest) as refused:
        PageRequest.parse(-1, "", scope="numbers")

    assert [violation.field for violation in refused.value.violations] == ["page_size"]


@pytest.mark.parametrize("token", ["?", "AAAA", "YWJjZGVmZ2hpag=="])
def test_a_made_up_token_is_refused(token: str) -> None:
    """A token no list returned is named as the bad field."""
    with pytest.raises(InvalidRequest) as refused:
        PageRequest.parse(1, token, scope="numbers")

    assert [violation.field for violation in refused.value.violations] == ["page_token"]


def test_a_token_of_another_list_is_refused() -> None:
    """One tenant's token does not page through another's list."""
    token = PageRequest.parse(1, "", scope="tenants/a/bots").cut(["x", "y"], key=str).next_token

    with pytest.raises(InvalidRequest):
        PageRequest.parse(1, token, scope="tenants/b/bots")
