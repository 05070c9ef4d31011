"""What is judged by its answers: prompts of held-out rows, each with the reference its row gives.

A row of several turns gives a prompt for each of the bot's turns, with the conversation before it as the row has it. Owns which rows
are asked; generating is `generation`'s, scoring the parent's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adaptory.core.prompting import RenderedRow
from trainer_svc.memory.generation import MAX_JUDGED
from trainer_svc.memory.held_out import choose_evenly
from trainer_svc.worker.answering import Prompt
from trainer_svc.worker.rows import Rows


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: the line of the held-out file and which of its learned stretches it asks for, both from 0, and the reference."""

    line: int
    turn: int
    prompt: Prompt
    reference: Prompt


def choose_asked(asked: Sequence[Asked], max_asked: int = MAX_JUDGED) -> list[Asked]:
    """Return at most so many, spread evenly over all, in their order."""
    return choose_evenly(asked, max_asked)


def list_asked(rows: Rows, ends: frozenset[int]) -> list[Asked]:
    """Return the prompts of rows; one that begins with what is learned has none there."""
    return [
        Asked(line, turn, row.ids[:begin], _cut_end(row.ids[begin:end], ends))
        for line, row in zip(rows.lines, rows.rows, strict=True)
        for turn, (begin, end) in enumerate(_find_learned(row))
        if begin
    ]


def find_ends(rows: Rows) -> frozenset[int]:
    """Return the tokens that learned stretches end with: the end of a turn, or of what is filled in."""
    return frozenset(row.ids[end - 1] for row in rows.rows for _, end in _find_learned(row))


def _find_learned(row: RenderedRow) -> Iterator[tuple[int, int]]:
    """Yield where each learned stretch begins and ends."""
    begin = None
    for place, learned in enumerate((*row.learned, False)):
        if learned and begin is None:
            begin = place
        elif not learned and begin is not None:
            yield begin, place
            begin = None


def _cut_end(ids: Prompt, ends: frozenset[int]) -> Prompt:
    return ids[:-1] if ids[-1] in ends else ids
