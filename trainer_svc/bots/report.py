"""What reading a dataset found. Problems carry line numbers and never the content of a line: reports are shown and kept."""

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer_svc.bots.lengths import RowLengths
from trainer_svc.bots.recipe import DataSize

MAX_PROBLEMS_KEPT = 100
# So many warnings of one reason, that a hundred of one kind do not hide the others.
MAX_KEPT_PER_WARNING = 20


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
    """What a dataset holds and what is wrong with it; `problems` are some of `num_problems`, `num_by_reason` counts them all.

    `lengths` are empty where no base could count tokens; `num_tests` counts the entries that are tasks with a test,
    `num_single_rows` those that make one row.
    """

    num_entries: int = 0
    num_rows: int = 0
    problems: tuple[DatasetProblem, ...] = ()
    num_problems: int = 0
    num_errors: int = 0
    num_by_reason: Mapping[str, int] = field(default_factory=dict)
    lengths: RowLengths = field(default_factory=RowLengths)
    num_tests: int = 0
    num_single_rows: int = 0

    @property
    def size(self) -> DataSize:
        """How much data there is."""
        return DataSize(self.num_rows, self.num_tests, self.lengths.longest_row_tokens, self.num_single_rows)

    @property
    def is_usable(self) -> bool:
        """Whether a job may use the data."""
        return self.num_errors == 0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "DatasetReport":
        """Read what `to_json` wrote; reports of earlier releases count neither tokens nor reasons."""
        problems = tuple(
            DatasetProblem(**{**problem, "severity": Severity(problem["severity"])}) for problem in raw["problems"]
        )
        lengths = RowLengths.from_json(raw["lengths"]) if "lengths" in raw else RowLengths()
        return cls(**{**raw, "problems": problems, "lengths": lengths})


class ProblemLog:
    """Counts all problems and keeps some, so that a bad file cannot fill the memory.

    Errors come first in what is kept: whoever reads a refusal must find its cause.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._errors: list[DatasetProblem] = []
        self._warnings: list[DatasetProblem] = []
        self._num_errors = 0
        self._num_by_reason: Counter[str] = Counter()

    @property
    def has_errors(self) -> bool:
        """Whether the data is refused."""
        return self._num_errors > 0

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Note something for which the dataset is refused."""
        self._num_errors += 1
        self._num_by_reason[reason] += 1
        if len(self._errors) < MAX_PROBLEMS_KEPT:
            self._errors.append(DatasetProblem(line, reason, description, Severity.ERROR))

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Note something worth a look."""
        self._num_by_reason[reason] += 1
        if self._num_by_reason[reason] <= MAX_KEPT_PER_WARNING:
            self._warnings.append(DatasetProblem(line, reason, description, Severity.WARNING))

    def make_report(
        self, *, num_entries: int, num_rows: int, lengths: RowLengths, num_tests: int = 0, num_single_rows: int = 0
    ) -> DatasetReport:
        """Return the report of what was noted so far, its problems by line."""
        kept = (self._errors + self._warnings)[:MAX_PROBLEMS_KEPT]
        return DatasetReport(
            num_entries,
            num_rows,
            tuple(sorted(kept, key=lambda problem: problem.line)),
            self._num_by_reason.total(),
            self._num_errors,
            dict(self._num_by_reason),
            lengths,
            num_tests,
            num_single_rows,
        )
