"""Says where a completion ends: with its line, or with its block; the same for serving and for judging.

Reads text as it comes and lets through what belongs to the completion, holding back only what cannot be told yet: the blanks before
the first character of a line. Brackets are counted outside of quotes, and quotes end with their line: one rule for all languages,
exact for none of them.
"""

import enum
from typing import Protocol

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "\"'`"
_TAB_COLUMNS = 4


class StopAt(enum.Enum):
    """Where a completion ends, unless the bot ends it before."""

    LINE = "line"
    BLOCK = "block"
    END = "end"


class CodeStop(Protocol):
    """Cuts one completion to its end."""

    @property
    def is_over(self) -> bool:
        """Whether the end was reached: nothing more belongs to the completion."""

    def take(self, text: str) -> str:
        """Return what is now known to belong to the completion, of `text` and of what was held back."""

    def flush(self) -> str:
        """Return what is held back, where the bot has ended the completion."""


def make_stop(stop_at: StopAt, prefix: str, suffix: str) -> CodeStop:
    """Return what cuts a completion between these texts."""
    match stop_at:
        case StopAt.LINE:
            return LineStop()
        case StopAt.BLOCK:
            return BlockStop(prefix, suffix)
        case StopAt.END:
            return NoStop()


def cut_completion(text: str, stop: CodeStop) -> str:
    """Return what belongs to a completion of a text that is there as a whole."""
    taken = stop.take(text)
    return taken if stop.is_over else taken + stop.flush()


class NoStop:
    """Lets everything through."""

    is_over = False

    def take(self, text: str) -> str:
        """Return the text."""
        return text

    def flush(self) -> str:
        """Return nothing: nothing is held back."""
        return ""


class LineStop:
    """Ends before the end of the first line that is not blank."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self.is_over = False
        self._is_blank = True
        self._held = ""  # a carriage return, until what follows says whether it ends the line

    def take(self, text: str) -> str:
        """Return what belongs to the line, or stands before it."""
        taken = ""
        for char in text:
            if char == "\n" and not self._is_blank:
                self.is_over = True
                break
            if char == "\r":
                taken, self._held = taken + self._held, char
                continue
            self._is_blank &= char.isspace()
            taken, self._held = taken + self._held + char, ""
        return taken

    def flush(self) -> str:
        """Return what is held back."""
        return self._held


class BlockStop:
    """Ends before the first line that is no part of the cursor's block.

    A block is the cursor's line and what is indented deeper; where nothing but blanks stands before the cursor in its line, it is all
    that is indented as deep. At the outermost level, where nothing is indented less, a blank line ends it. A line belongs to it while
    brackets of the completion are open, and so does one that closes a bracket of the cursor's line, as the last one.
    """

    def __init__(self, prefix: str, suffix: str) -> None:
        """Take in the cursor's line."""
        self.is_over = False
        line = prefix.rpartition("\n")[2]
        self._base = _count_columns(line)
        self._is_at_beginning = not line.strip()
        self._brackets = _Brackets()
        for char in line:
            self._brackets.read(char)
        self._may_close = self._brackets.depth > 0 and suffix.lstrip()[:1] not in tuple(_CLOSING)
        self._brackets = _Brackets()
        self._held = ""  # a line's end and the blanks behind it, until its first character comes
        self._is_last_line = False

    def take(self, text: str) -> str:
        """Return what belongs to the block."""
        taken = ""
        for char in text:
            if char == "\n" and self._is_last_line:
                self.is_over = True
            elif char == "\n" or (self._held and char.isspace()):
                self._brackets.read(char)
                self._held += char
                continue
            elif self._held and not self._belongs(char):
                self.is_over = True
            if self.is_over:
                break
            self._brackets.read(char)
            taken, self._held = taken + self._held + char, ""
        return taken

    def flush(self) -> str:
        """Return what is held back."""
        return "" if self.is_over else self._held

    def _belongs(self, first: str) -> bool:
        """Tell whether a line is part of the block, by its first character and the blanks before it."""
        if self._brackets.depth > 0:
            return True
        columns = _count_columns(self._held.rpartition("\n")[2])
        if self._is_at_beginning:
            ends_paragraph = self._base == 0 and columns == 0 and self._held.count("\n") > 1
            return columns >= self._base and not ends_paragraph
        if columns == self._base and first in _CLOSING and self._may_close:
            self._is_last_line = True
            return True
        return columns > self._base


class _Brackets:
    """Counts brackets that were opened and not closed; those that were opened before are not missed."""

    def __init__(self) -> None:
        self.depth = 0
        self._quote = ""
        self._is_escaped = False

    def read(self, char: str) -> None:
        if char == "\n":
            self._quote, self._is_escaped = "", False
        elif self._is_escaped or (self._quote and char == "\\"):
            self._is_escaped = not self._is_escaped
        elif self._quote:
            self._quote = "" if char == self._quote else self._quote
        elif char in _QUOTES:
            self._quote = char
        elif char in _OPENING:
            self.depth += 1
        elif char in _CLOSING:
            self.depth = max(0, self.depth - 1)


def _count_columns(line: str) -> int:
    """Return how far a line is indented."""
    return len(line.expandtabs(_TAB_COLUMNS)) - len(line.expandtabs(_TAB_COLUMNS).lstrip())
