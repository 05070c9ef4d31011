"""The rows a dataset becomes, and which of them are kept from training."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from adaptory.core.code_stop import StopAt
from adaptory.core.fim import FimRow
from adaptory.core.prompting import Message
from trainer_svc.bots.entry import ChatEntry
from trainer_svc.bots.rewording import reword


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows kept from training, each as (entry, row of the entry), both counted from 0.

    Of the entries in `reworded` every row is trained on, and judged by is a question put in other words.
    """

    rows: frozenset[tuple[int, int]]
    reworded: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn, or to judge by."""

    messages: tuple[Message, ...]
    is_held_out: bool


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One cut file to learn, or to judge by.

    `test` is Python that fails behind a file which is wrong, empty where nothing does; `stop_at` says where an answer to it ends.
    """

    row: FimRow
    is_held_out: bool
    test: str = ""
    stop_at: StopAt = StopAt.END


def make_rows(entries: Iterable[ChatEntry], held_out: HeldOut, *, system_prompt: str) -> Iterator[Row]:
    """Yield the rows in the order of the data; each begins with the bot's system turn where it has one."""
    opening = (Message("system", system_prompt),) if system_prompt else ()
    for place, entry in enumerate(entries):
        for number, messages in enumerate(entry.conversations):
            yield Row((*opening, *messages), (place, number) in held_out.rows)
        if place in held_out.reworded:
            yield Row((*opening, *_reword(entry.conversations[0])), is_held_out=True)


def _reword(messages: Iterable[Message]) -> Iterator[Message]:
    for message in messages:
        yield replace(message, content=reword(message.content)) if message.role == "user" else message
