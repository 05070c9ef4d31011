"""How an FAQ bot is trained: its recipe, and which of its rows are held out for judging.

One row for each wording of an entry. Held out are wordings, not facts: the entry is still learned by its other wordings, so that the
loss on held-out rows says whether the bot knows a fact in words it never saw. Only data without any second wording holds out whole
entries, and its losses then say little: they can only ask for facts that were never taught.
"""

import random
from collections.abc import Sequence

from trainer_svc.bots.recipe import RecipeRule
from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.jobs.workspace import TrainingSettings

# What 135M parameters need to learn some fifty facts by heart; a caller may override each value.
# The loss on 48 wordings that were never trained fell in each of six epochs, in the last by 2 %; a fifth of fifty entries is ten
# rows, whose loss wavers, so three epochs without a gain are waited for.
RECIPE = TrainingSettings(
    rank=16,
    alpha=32,
    learning_rate=1e-3,
    epochs=6,
    batch_rows=8,
    max_row_tokens=4096,
    seed=0,
    early_stopping_patience=3,
)
# Held out are wordings of entries that have several, whose facts are still taught by the others: a judgement on a handful would be
# chance. As many steps as six epochs of fifty facts in three wordings make; in fewer the rate has hardly risen when training ends.
RECIPE_RULE = RecipeRule(RECIPE, held_out_share=0.2, min_steps=108, max_epochs=20)


def hold_out(index: RowIndex, *, share: float, seed: int) -> HeldOut:
    """Choose the rows to hold out, as `choose_held_out` does."""
    return choose_held_out(index.count_rows(), share=share, seed=seed)


def teaches_held_out(num_entries: int, num_rows: int) -> bool:
    """Return whether the entries have second wordings, so that a wording held out asks for a fact that is learned.

    Else the loss on held-out rows rises while facts are learned by heart: the best adapter by that loss would know the fewest.
    """
    return num_rows > num_entries


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
