"""The rows of a job: read from its dataset's blob, in bounded memory, the same ones every time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from trainer_svc.bots.entry import Entry
from trainer_svc.bots.formats import layout_of
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.bots.row_rendering import LearnedRow, write_row
from trainer_svc.bots.teaching import Lesson, teaching_of
from trainer_svc.registry.artifacts import ArtifactStore


@dataclass(frozen=True, slots=True)
class RowSource:
    """Which data, and what besides the data decides its rows."""

    kind: BotKind
    format: DatasetFormat
    dataset_digest: str
    held_out_share: float
    lesson: Lesson


class RowReader:
    """Makes rows of datasets. Blocks: call it in a thread."""

    def __init__(self, artifacts: ArtifactStore, limits: DataLimits) -> None:
        self._artifacts = artifacts
        self._limits = limits

    def read(self, source: RowSource) -> Iterator[LearnedRow]:
        """Yield the rows of a READY dataset. Raises Corrupted when its bytes changed."""
        return split_rows(lambda: self._read_entries(source), source)

    def _read_entries(self, source: RowSource) -> Iterator[Entry]:
        with closing(self._artifacts.open(source.dataset_digest)) as file:
            for _, entry in layout_of(source.format).read(file, self._limits, NoProblems()):
                yield entry


def split_rows(read_entries: Callable[[], Iterator[Entry]], source: RowSource) -> Iterator[LearnedRow]:
    """Yield the rows of the entries that `read_entries` reads anew at each call, each held out or not."""
    # Twice over the data: who is held out depends on all entries.
    index = RowIndex()
    for entry in read_entries():
        index.add(entry)
    teaching, lesson = teaching_of(source.kind), source.lesson
    held_out = teaching.hold_out(index, share=source.held_out_share, seed=lesson.training.seed)
    return teaching.make_rows(read_entries(), held_out, lesson)


def write_rows(rows: Iterable[LearnedRow], *, train: Path, held_out: Path) -> None:
    """Write rows as the worker reads them, one a line, into the two files."""
    with ExitStack() as files:
        train_file = files.enter_context(train.open("x", encoding="utf-8"))
        held_out_file = files.enter_context(held_out.open("x", encoding="utf-8"))
        for row in rows:
            (held_out_file if row.is_held_out else train_file).write(write_row(row) + "\n")
