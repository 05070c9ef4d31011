"""A file of data on this machine that was not uploaded: what it holds, told by its ending and its first line, and its entries."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from adaptory.core.errors import InvalidRequest
from trainer_svc.bots.code_task import is_task
from trainer_svc.bots.entry import Entry
from trainer_svc.bots.formats import layout_of, require_trained_format
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, NoProblems
from trainer_svc.bots.report import DatasetReport, Severity

# Endings that may be data; anything else in a folder is not.
DATA_ENDINGS = (".jsonl", ".csv", ".tsv", ".tar", ".tar.gz", ".tgz")
# A line of code holds a whole file.
_MAX_FIRST_LINE_BYTES = 4 * 1024**2
_NUM_TOLD = 3


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file, the kind of bot it teaches, its format, and the limits it is read by."""

    path: Path
    kind: BotKind
    format: DatasetFormat
    limits: DataLimits

    @classmethod
    def guess(cls, path: Path, limits: DataLimits, *, field: str) -> Self:
        """Open a file by its ending, and lines of JSON by the fields of the first. Raises InvalidRequest of `field`: unreadable."""
        try:
            kind, dataset_format = _guess_layout(path, limits)
        except OSError as error:
            raise InvalidRequest.of_field(field, f"{path} cannot be read: {error.strerror}") from error
        return cls(path, kind, dataset_format, limits)

    def judge(self, *, field: str, ruler: TokenRuler | None = None) -> DatasetReport:
        """Return the report on data a job can train on; without a ruler no tokens are counted.

        Raises InvalidRequest of `field` with the first bad lines, NotServed where the format is not trained on yet.
        """
        require_trained_format(self.format)
        with self.path.open("rb") as file:
            report = judge_dataset(file, self.kind, self.format, self.limits, ruler)
        if not report.is_usable:
            errors = [problem for problem in report.problems if problem.severity is Severity.ERROR]
            told = "; ".join(f"line {problem.line}: {problem.description}" for problem in errors[:_NUM_TOLD])
            raise InvalidRequest.of_field(field, f"{self.path.name} cannot be trained on: {told}")
        return report

    def read_entries(self) -> Iterator[Entry]:
        """Yield the entries of data that was judged. Raises LineProblem where it has errors."""
        with self.path.open("rb") as file:
            for _, entry in layout_of(self.format).read(file, self.limits, NoProblems()):
                yield entry


def _guess_layout(path: Path, limits: DataLimits) -> tuple[BotKind, DatasetFormat]:
    ending = "".join(path.suffixes[-2:]).lower()
    if ending.endswith((".tar", ".tar.gz", ".tgz")):
        return BotKind.CODE_COMPLETION, DatasetFormat.CODE_TAR
    table = {".csv": DatasetFormat.FAQ_CSV, ".tsv": DatasetFormat.FAQ_TSV}.get(path.suffix.lower())
    if table:
        return BotKind.FAQ, table
    limits = replace(limits, max_line_bytes=_MAX_FIRST_LINE_BYTES)
    with path.open("rb") as file:
        first = next((raw for _, raw in read_filled_lines(file, limits.max_line_bytes)), b"")
    try:
        fields = parse_json_line(first, limits)
    except LineProblem:
        fields = {}  # the judge tells what is wrong with the line
    if "messages" in fields:
        return BotKind.SUPPORT, DatasetFormat.CONVERSATION_JSONL
    if "chosen" in fields:
        return BotKind.SUPPORT, DatasetFormat.PREFERENCE_JSONL
    if "content" in fields or is_task(fields):
        return BotKind.CODE_COMPLETION, DatasetFormat.CODE_JSONL
    return BotKind.FAQ, DatasetFormat.FAQ_JSONL
