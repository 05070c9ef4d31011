"""Pages of lists: sizes, and tokens that are opaque to callers and good for the list they came from only."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from adaptory.core.errors import InvalidRequest

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_SCOPE_BYTES = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is wanted: at most `size` items behind the one with key `after` ("" is the beginning)."""

    size: int
    after: str
    scope: str

    @classmethod
    def parse(cls, page_size: int, page_token: str, *, scope: str) -> "PageRequest":
        """Read a request's two fields; `scope` names the list. Raises InvalidRequest that names the bad field."""
        if page_size < 0:
            raise InvalidRequest.of_field("page_size", f"is {page_size}; it must be 0 or more", page_size=page_size)
        after = _open_token(page_token, scope) if page_token else ""
        return cls(min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), after, scope)

    def cut(self, items: Sequence[T], *, key: Callable[[T], object]) -> "Page[T]":
        """Make a page of the items found, of which there must be one more than `size` where the list goes on."""
        shown = tuple(items[: self.size])
        token = _make_token(str(key(shown[-1])), self.scope) if len(items) > self.size else ""
        return Page(shown, token)

    def after_number(self) -> int | None:
        """Return the key as a number, None at the beginning. Raises InvalidRequest when a caller made the token up."""
        if not self.after:
            return None
        if not self.after.isdecimal():
            raise _bad_token()
        return int(self.after)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `next_token` is empty on the last page."""

    items: tuple[T, ...]
    next_token: str


def _make_token(key: str, scope: str) -> str:
    return base64.urlsafe_b64encode(_digest_scope(scope) + key.encode()).decode()


def _open_token(token: str, scope: str) -> str:
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        if raw[:_SCOPE_BYTES] == _digest_scope(scope):
            return raw[_SCOPE_BYTES:].decode()
    except (binascii.Error, ValueError):
        raise _bad_token() from None
    raise _bad_token()


def _digest_scope(scope: str) -> bytes:
    return hashlib.sha256(scope.encode()).digest()[:_SCOPE_BYTES]


def _bad_token() -> InvalidRequest:
    return InvalidRequest.of_field("page_token", "is not one this list returned; begin again without a token")
