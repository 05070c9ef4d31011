"""How long the rows of a dataset are, in tokens of one base."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import InvalidRequest
from adaptory.core.prompting import Renderer
from trainer_svc.bots.entry import Entry

_SHORTEST_BUCKET = 16


@dataclass(frozen=True, slots=True)
class LengthBucket:
    """Rows of at most `max_tokens` tokens, and more than those of the bucket before."""

    max_tokens: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class RowLengths:
    """Tokens of all rows and a histogram whose buckets double; a bot's system turn, which data does not know, is not counted."""

    base_model: str = ""
    num_tokens: int = 0
    longest_row_tokens: int = 0
    buckets: tuple[LengthBucket, ...] = ()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "RowLengths":
        """Read what `dataclasses.asdict` made."""
        return cls(**{**raw, "buckets": tuple(LengthBucket(**bucket) for bucket in raw["buckets"])})


class UnrenderableRow(Exception):
    """The base's template refuses a row: some, for example, want a user's turn first."""


class TokenRuler:
    """Measures entries by a base's tokenizer and template."""

    def __init__(self, base: PreparedBase) -> None:
        """Open the base's tokenizer."""
        self._renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
        self.base_model = base.name
        self.max_tokens = base.max_tokens

    def measure(self, entry: Entry) -> Iterator[int]:
        """Yield the length of each row of an entry. Raises UnrenderableRow."""
        try:
            yield from entry.measure(self._renderer)
        except InvalidRequest as error:
            raise UnrenderableRow(f"the chat template of {self.base_model} refuses the row") from error


class LengthCount:
    """Counts rows by their length."""

    def __init__(self, base_model: str) -> None:
        """Begin with none, of this base."""
        self._base_model = base_model
        self._num_rows_up_to: Counter[int] = Counter()
        self.num_tokens = 0
        self._longest = 0

    def add(self, num_tokens: int) -> None:
        """Count a row."""
        self._num_rows_up_to[max(_SHORTEST_BUCKET, 1 << (num_tokens - 1).bit_length())] += 1
        self.num_tokens += num_tokens
        self._longest = max(self._longest, num_tokens)

    def sum_up(self) -> RowLengths:
        """Return what was counted, every bucket from the shortest to the longest that is filled."""
        filled = self._num_rows_up_to
        buckets = []
        bound = min(filled, default=1)
        while bound <= max(filled, default=0):
            buckets.append(LengthBucket(bound, filled[bound]))
            bound *= 2
        return RowLengths(self._base_model, self.num_tokens, self._longest, tuple(buckets))
