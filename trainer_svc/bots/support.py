"""How a support bot is trained: its recipe, and which of its conversations are held out for judging.

A conversation is one row: the bot's system turn, then all its turns, of which every turn of the agent is learned. So one row teaches
an answer at each point of the conversation, at the price of reading it once. Whole conversations are held out, and those that are
nearly the same stay on one side, or the held-out loss would ask for what was trained.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from trainer_svc.bots.recipe import Recipe, choose_epochs
from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.jobs.workspace import TrainingSettings

# Tone and procedure, not facts by heart: a gentler rate than an FAQ bot's, and fewer passes over rows that hold many turns each.
# Not knowing by heart, but answers to what it never saw are wanted: two epochs without a gain are enough.
RECIPE = TrainingSettings(
    rank=16,
    alpha=32,
    learning_rate=5e-4,
    epochs=2,
    batch_rows=8,
    max_row_tokens=4096,
    seed=0,
    early_stopping_patience=2,
)
HELD_OUT_SHARE = 0.05
_MIN_STEPS = 120
_MAX_EPOCHS = 10


def choose_recipe(num_rows: int) -> Recipe:
    """Return the recipe for so many conversations."""
    epochs = choose_epochs(
        num_rows, batch_rows=RECIPE.batch_rows, min_steps=_MIN_STEPS, fewest=RECIPE.epochs, most=_MAX_EPOCHS
    )
    return Recipe(replace(RECIPE, epochs=epochs), HELD_OUT_SHARE)


def hold_out(index: RowIndex, *, share: float, seed: int) -> HeldOut:
    """Choose the conversations to hold out, as `choose_held_out` does."""
    return choose_held_out(index.group(), share=share, seed=seed)


def choose_held_out(groups: Sequence[int], *, share: float, seed: int) -> HeldOut:
    """Choose the conversations to hold out of those with these groups; the same arguments choose the same ones.

    Whole groups up to a `share` of the conversations, and one group at least. Where all are one group it is split after all: without
    any row held out nothing could be judged, and the data's report says that they are alike. There must be two conversations.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    if len(set(groups)) == 1:
        groups = range(len(groups))
    sizes = Counter(groups)
    order = chance.sample(sorted(sizes), len(sizes))
    room = max(1, round(share * len(groups)))
    chosen: set[int] = set()
    for group in order:
        if sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
    if not chosen:
        chosen.add(min(order, key=lambda group: sizes[group]))
    return HeldOut(frozenset((place, 0) for place, group in enumerate(groups) if group in chosen))
