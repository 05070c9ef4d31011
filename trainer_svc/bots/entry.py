"""What every entry of a dataset can say of itself, whatever its format: that is all a judge needs to know."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from adaptory.core.prompting import Message, Renderer


@dataclass(frozen=True, slots=True)
class RowKey:
    """By what a row is told from others: rows of one text are duplicates, rows of texts that are nearly the same near duplicates.

    Rows that are `apart` differently are never near duplicates.
    """

    text: str
    apart: str = ""


class Entry(Protocol):
    """One thing a dataset teaches, read from one or more lines."""

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """The key of each of its rows."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of a person in it."""

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the length of each of its rows in tokens, without a bot's system turn. Raises as `Renderer.render_row`."""


class ChatEntry(Entry, Protocol):
    """An entry whose rows are conversations."""

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """The messages of each of its rows, in the order of `keys`, without a bot's system turn."""
