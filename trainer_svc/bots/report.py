"""What reading a dataset found. Problems carry line numbers and never the content of a line: reports are shown and kept."""

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_PROBLEMS_KEPT = 100


class Severity(enum.StrEnum):
    """How much a problem matters."""

    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """One thing found in one line, counted from 1; line 0 is the whole file."""

    line: int
    reason: str
    description: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a dataset holds and what is wrong with it; `problems` are the first ones of `num_problems`."""

    num_entries: int = 0
    num_rows: int = 0
    problems: tuple[DatasetProblem, ...] = ()
    num_problems: int = 0
    num_errors: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether a job may use the data."""
        return self.num_errors == 0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "DatasetReport":
        """Read what `to_json` wrote."""
        problems = tuple(
            DatasetProblem(**{**problem, "severity": Severity(problem["severity"])}) for problem in raw["problems"]
        )
        return cls(**{**raw, "problems": problems})


class ProblemLog:
    """Counts all problems and keeps the first ones, so that a bad file cannot fill the memory."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: list[DatasetProblem] = []
        self._num_problems = 0
        self._num_errors = 0

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Note something for which the dataset is refused."""
        self._num_errors += 1
        self._note(DatasetProblem(line, reason, description, Severity.ERROR))

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Note something worth a look."""
        self._note(DatasetProblem(line, reason, description, Severity.WARNING))

    def make_report(self, *, num_entries: int, num_rows: int) -> DatasetReport:
        """Return the report of what was noted so far."""
        return DatasetReport(num_entries, num_rows, tuple(self._kept), self._num_problems, self._num_errors)

    def _note(self, problem: DatasetProblem) -> None:
        self._num_problems += 1
        if len(self._kept) < MAX_PROBLEMS_KEPT:
            self._kept.append(problem)
