"""Hands out an answer's tokens beside the text that is sent of it: none that was cut off, none before its text."""

from collections import deque
from collections.abc import Iterable

from serve_svc.engine.engine import GeneratedToken


class TokenTape:
    """The tokens of one answer, in the order of its text. Where no tokens are told it stays empty."""

    def __init__(self) -> None:
        """Begin before the first token."""
        self._waiting: deque[tuple[int, GeneratedToken]] = deque()  # where each begins, in characters
        self._num_chars = 0
        self._num_passed = 0

    def add(self, tokens: Iterable[GeneratedToken]) -> None:
        """Take the tokens that came next; their text may come later."""
        for token in tokens:
            self._waiting.append((self._num_chars, token))
            self._num_chars += len(token.text)

    def skip(self, num_chars: int) -> None:
        """Drop the tokens that end in the next `num_chars` characters, which are not sent."""
        self._num_passed += num_chars
        while self._waiting and self._end_of_first() <= self._num_passed:
            self._waiting.popleft()

    def take(self, num_chars: int) -> tuple[GeneratedToken, ...]:
        """Return the tokens that begin in the next `num_chars` characters, which are sent."""
        self._num_passed += num_chars
        taken = []
        while self._waiting and self._waiting[0][0] < self._num_passed:
            taken.append(self._waiting.popleft()[1])
        return tuple(taken)

    def _end_of_first(self) -> int:
        start, token = self._waiting[0]
        return start + len(token.text)
