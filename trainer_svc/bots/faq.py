"""How an FAQ bot is trained: the recipe, the rows its data becomes, and which of them are held out for judging.

One row for each wording of an entry. Held out are wordings, not facts: the entry is still learned by its other wordings, so that the
loss on held-out rows says whether the bot knows a fact in words it never saw. Only data without any second wording holds out whole
entries, and its losses then say little: they can only ask for facts that were never taught.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adaptory.core.prompting import Message
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.jobs.workspace import TrainingSettings

# What 135M parameters need to learn some fifty facts by heart; a caller may override each value.
RECIPE = TrainingSettings(rank=16, alpha=32, learning_rate=1e-3, epochs=6, batch_rows=8, max_row_tokens=1024, seed=0)
HELD_OUT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows kept from training, each as (entry, wording), both counted from 0."""

    rows: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn, or to judge by."""

    messages: tuple[Message, ...]
    is_held_out: bool


def choose_held_out(num_wordings: Sequence[int], *, share: float, seed: int) -> HeldOut:
    """Choose the rows to hold out of entries with these many wordings; the same arguments choose the same rows.

    One wording each of a `share` of the entries that have two or more; else all of a `share` of the entries. At least one row is held
    out and at least one stays, for which there must be two rows.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    several = [entry for entry, number in enumerate(num_wordings) if number > 1]
    if several:
        chosen = chance.sample(several, max(1, round(share * len(several))))
        return HeldOut(frozenset((entry, chance.randrange(num_wordings[entry])) for entry in chosen))
    num_chosen = min(max(1, round(share * len(num_wordings))), len(num_wordings) - 1)
    return HeldOut(frozenset((entry, 0) for entry in chance.sample(range(len(num_wordings)), num_chosen)))


def make_rows(entries: Iterable[FaqEntry], held_out: HeldOut, *, system_prompt: str) -> Iterator[Row]:
    """Yield the rows in the order of the data; each begins with the bot's system turn where it has one."""
    opening = (Message("system", system_prompt),) if system_prompt else ()
    for place, entry in enumerate(entries):
        for wording, question in enumerate(entry.questions):
            messages = (*opening, Message("user", question), Message("assistant", entry.answer))
            yield Row(messages, (place, wording) in held_out.rows)
