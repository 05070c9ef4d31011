"""Rows to train on in a measurement: some that share nothing, and those of an FAQ bot, which all begin with its system turn."""

import random
import string
from collections.abc import Iterator

from adaptory.core.prompting import Message
from examples.demo.companies import Company
from trainer_svc.bots.faq_data import read_faq_lines
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.row import HeldOut, Row, make_rows

_NUM_UNSHARED_HELD_OUT = 4
_NUM_FAQ_HELD_OUT = 8
_MAX_THINGS = 4
_COLOURS = ("red", "blue", "green", "black", "white", "yellow")
_THINGS = ("chain", "helmet", "saddle", "pump", "lamp", "basket", "tyre", "bell", "lock", "pedal")


def make_unshared_rows() -> Iterator[Row]:
    """Yield 48 rows to train on and 4 held out, about 40 to 80 tokens each; the same ones every time.

    Each system turn begins with another letter, so that whatever the tokenizer no two rows begin alike but for the template's own
    opening, which is shorter than what our worker shares.
    """
    chance = random.Random(0)  # noqa: S311 - to be repeatable, not secret
    for place, letter in enumerate(string.ascii_letters):
        messages = (Message("system", f"{letter} is your desk."), *_ask_for_shelves(chance))
        yield Row(messages, is_held_out=place < _NUM_UNSHARED_HELD_OUT)


def make_faq_rows(company: Company) -> Iterator[Row]:
    """Yield the rows of a company's FAQ bot as a training job makes them; the first wordings of eight entries are held out."""
    held_out = HeldOut(frozenset((entry, 0) for entry in range(_NUM_FAQ_HELD_OUT)))
    with company.training_file.open("rb") as file:
        entries = (entry for _, entry in read_faq_lines(file, DataLimits(), NoProblems()))
        yield from make_rows(entries, held_out, system_prompt=company.system_prompt)


def _ask_for_shelves(chance: random.Random) -> tuple[Message, Message]:
    things = [f"{chance.choice(_COLOURS)} {thing}" for thing in chance.sample(_THINGS, chance.randint(1, _MAX_THINGS))]
    shelves = [f"the {thing} on shelf {chance.randint(10, 99)}" for thing in things]
    question = f"Where do I find {' and '.join(f'the {thing}' for thing in things)}, please?"
    return Message("user", question), Message("assistant", f"You find {', '.join(shelves)}.")
