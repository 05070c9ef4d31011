"""Walks through paged lists."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar


class Page(Protocol):
    """The answer of a List method."""

    next_page_token: str


PageT = TypeVar("PageT", bound=Page)
Item = TypeVar("Item")


async def walk_pages(
    fetch: Callable[[str], Awaitable[PageT]], items: Callable[[PageT], Iterable[Item]]
) -> AsyncIterator[Item]:
    """Yield the items of every page; `fetch` takes a page token, the first of which is empty."""
    token = ""
    while True:
        page = await fetch(token)
        for item in items(page):
            yield item
        token = page.next_page_token
        if not token:
            return
