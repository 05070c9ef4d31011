"""The rows a dataset becomes, and which of them are kept from training."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from adaptory.core.code_stop import StopAt
from adaptory.core.fim import FimRow
from adaptory.core.prompting import Message
from trainer_svc.bots.entry import ChatEntry


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows kept from training, each as (entry, row of the entry), both counted from 0."""

    rows: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn, or to judge by.

    `is_measured` is false of one that is asked and judged by its answer alone: no trained row is like it, so the loss on it grows the
    surer a bot becomes, and says nothing of which adapter is best.
    """

    messages: tuple[Message, ...]
    is_held_out: bool
    is_measured: bool = True


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One cut file to learn, or to judge by.

    `test` is Python that fails behind a file which is wrong, empty where nothing does; `stop_at` says where an answer to it ends.
    """

    row: FimRow
    is_held_out: bool
    test: str = ""
    stop_at: StopAt = StopAt.END

    @property
    def is_measured(self) -> bool:
        """Whether the loss on it counts, as that on every cut file does."""
        return True


def make_rows(entries: Iterable[ChatEntry], held_out: HeldOut, *, system_prompt: str) -> Iterator[Row]:
    """Yield the rows in the order of the data; each begins with the bot's system turn where it has one."""
    opening = (Message("system", system_prompt),) if system_prompt else ()
    for place, entry in enumerate(entries):
        for number, messages in enumerate(entry.conversations):
            yield Row((*opening, *messages), (place, number) in held_out.rows)
