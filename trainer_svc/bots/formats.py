"""How each format of datasets is read, chosen here alone. A format is read once it has its place in the table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from adaptory.core.errors import NotServed
from trainer_svc.bots.code_data import read_code_lines
from trainer_svc.bots.code_tree import read_code_tree
from trainer_svc.bots.entry import Entry
from trainer_svc.bots.faq_data import read_faq_lines
from trainer_svc.bots.faq_table import read_faq_csv, read_faq_tsv
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.preference_data import read_preference_lines
from trainer_svc.bots.problem import ProblemSink
from trainer_svc.bots.support_data import read_conversation_lines

ReadEntries = Callable[[BinaryIO, DataLimits, ProblemSink], Iterator[tuple[int, Entry]]]
"""Yields each entry with its line, from 1, in memory bounded by the limits.

What cannot be used is told to the sink and left out; bad bytes raise nothing but what the sink raises.
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """One format: how it is read, which kinds of bots it teaches, whether a job can train on it, what two rows with one key are."""

    read: ReadEntries
    kinds: tuple[BotKind, ...]
    duplicate_reason: str
    is_trained: bool = True


_FAQ, _SUPPORT, _CODE = (BotKind.FAQ,), (BotKind.SUPPORT,), (BotKind.CODE_COMPLETION,)
_LAYOUTS: Mapping[DatasetFormat, Layout] = {
    DatasetFormat.FAQ_JSONL: Layout(read_faq_lines, _FAQ, "DUPLICATE_QUESTION"),
    DatasetFormat.FAQ_CSV: Layout(read_faq_csv, _FAQ, "DUPLICATE_QUESTION"),
    DatasetFormat.FAQ_TSV: Layout(read_faq_tsv, _FAQ, "DUPLICATE_QUESTION"),
    DatasetFormat.CONVERSATION_JSONL: Layout(read_conversation_lines, _SUPPORT, "DUPLICATE_CONVERSATION"),
    DatasetFormat.CODE_JSONL: Layout(read_code_lines, _CODE, "DUPLICATE_FILE"),
    DatasetFormat.CODE_TAR: Layout(read_code_tree, _CODE, "DUPLICATE_FILE"),
    DatasetFormat.PREFERENCE_JSONL: Layout(
        read_preference_lines, (BotKind.FAQ, BotKind.SUPPORT), "DUPLICATE_PAIR", is_trained=False
    ),
}


def layout_of(dataset_format: DatasetFormat) -> Layout:
    """Return how a format is read. Raises NotServed, with the formats that are, where it cannot be yet."""
    if dataset_format not in _LAYOUTS:
        served = ", ".join(_LAYOUTS)
        message = f"Datasets of format {dataset_format} are not read yet; read are: {served}."
        raise NotServed(message, metadata={"served": served})
    return _LAYOUTS[dataset_format]


def formats_of(kind: BotKind) -> tuple[DatasetFormat, ...]:
    """Return the formats that are read for a kind of bots."""
    return tuple(dataset_format for dataset_format, layout in _LAYOUTS.items() if kind in layout.kinds)


def require_trained_format(dataset_format: DatasetFormat) -> None:
    """Raise NotServed unless a job can train on data of this format."""
    if not layout_of(dataset_format).is_trained:
        trained = ", ".join(name for name, layout in _LAYOUTS.items() if layout.is_trained)
        message = f"Datasets of format {dataset_format} are read and judged, but not trained on yet; trained on are: {trained}."
        raise NotServed(message, metadata={"format": dataset_format, "trained": trained})
