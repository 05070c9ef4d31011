"""Which entries of a file of data a measurement takes: the first ones, up to so many rows, that are short enough.

A whole file may train for hours. What was left out is counted, and told beside every score.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_svc.bots.code_task import CodeTask
from trainer_svc.bots.data_file import DATA_ENDINGS, DataFile
from trainer_svc.bots.entry import Entry
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.lengths import TokenRuler, UnrenderableRow
from trainer_svc.bots.recipe import DataSize


@dataclass(frozen=True, slots=True)
class Sample:
    """Entries that are used, with the rows they are: wordings, conversations, files.

    `num_left_out` counts entries before the last one used that have a row too long, or one that the base's template refuses.
    """

    entries: Sequence[Entry]
    size: DataSize
    num_left_out: int

    @property
    def num_rows(self) -> int:
        """How many rows they are."""
        return self.size.num_rows


def take_sample(data: DataFile, ruler: TokenRuler, *, max_rows: int, max_row_tokens: int) -> Sample:
    """Return the first entries that make at most `max_rows` rows, none longer than `max_row_tokens`; code is cut, so its files are.

    All of them are kept in memory.
    """
    entries: list[Entry] = []
    num_rows = num_left_out = 0
    for entry in data.read_entries():
        if num_rows + len(entry.keys) > max_rows:
            break
        if data.kind is not BotKind.CODE_COMPLETION and not _is_short(entry, ruler, max_row_tokens):
            num_left_out += 1
            continue
        entries.append(entry)
        num_rows += len(entry.keys)
    tasks = [max(ruler.measure(entry)) for entry in entries if isinstance(entry, CodeTask)]
    num_single_rows = sum(len(entry.keys) == 1 for entry in entries)
    return Sample(entries, DataSize(num_rows, len(tasks), max(tasks, default=0), num_single_rows), num_left_out)


def list_data_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that may be data by their endings, in the order of their names; links are not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if name.lower().endswith(DATA_ENDINGS))


def _is_short(entry: Entry, ruler: TokenRuler, max_row_tokens: int) -> bool:
    try:
        return max(ruler.measure(entry)) <= max_row_tokens
    except UnrenderableRow:
        return False
