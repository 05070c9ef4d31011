"""One thing wrong with one line, and where readers tell of it. Its text never quotes the line: reports are shown and kept."""

from typing import Protocol


class LineProblem(Exception):
    """One line cannot be used."""

    def __init__(self, reason: str, description: str) -> None:
        """Say which rule the line breaks, by a stable reason and a sentence."""
        super().__init__(description)
        self.reason = reason
        self.description = description


class ProblemSink(Protocol):
    """Where a reader tells what it found while it goes on."""

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Take note of something for which the dataset is refused."""

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Take note of something worth a look."""


class NoProblems:
    """For data that was judged already: the first error is raised, and what was only worth a look was told then."""

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Raise LineProblem."""
        raise LineProblem(reason, f"line {line}: {description}")

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Do nothing."""
