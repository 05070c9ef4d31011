"""How an FAQ bot is trained: its recipe, and by which of its rows it is judged.

One row for each wording of an entry. Held out are wordings, not facts: the entry is still learned by its other wordings, so that
what is held out says whether the bot knows a fact in words it never saw. An entry with one wording keeps it for training, is learned
by rewordings made by rule as well, and judged by yet another.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.recipe import DataSize, Recipe, RecipeRule
from trainer_svc.bots.rewording import list_rewordings, reword
from trainer_svc.bots.row import HeldOut, Row, make_rows
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
# Learning by heart at the rate of Llama and its relatives Gemma 3 forgets: after two epochs of a Japanese FAQ it had lost 2.1 nats on
# English text; at a third of the rate as much after six, when it knew the rows better. What it learns of conversations costs it a
# tenth of that at the full rate, and a third teaches less (docs/measurements.md).
_FAMILY_SCALES = {"gemma3_text": 0.33}
# Holding out costs no fact, and a judgement on a handful would be chance. As many steps as six epochs of fifty facts in three
# wordings make; in fewer the rate has hardly risen when training ends.
RECIPE_RULE = RecipeRule(RECIPE, held_out_share=0.2, min_steps=108, max_epochs=20, family_scales=_FAMILY_SCALES)

# Besides the one wording of an entry. Of 48 paragraphs of the Python FAQ, asked in words of a person, 5 % of the facts were known
# without them and 18 % with them, in as many tokens of training (docs/measurements.md).
NUM_REWORDINGS = 3
# The row, of an entry that comes with one wording, that it is judged by.
_JUDGED = 1


def choose_recipe(size: DataSize) -> Recipe:
    """Return the recipe for data of this size; rewordings are rows, too."""
    return RECIPE_RULE.choose(replace(size, num_rows=size.num_rows + NUM_REWORDINGS * size.num_single_rows))


def make_faq_rows(entries: Iterable[FaqEntry], held_out: HeldOut, *, system_prompt: str) -> Iterator[Row]:
    """Yield the rows in the order of the data; rewordings are rows of their entry."""
    worded = (_word(entry, is_judged=(place, _JUDGED) in held_out.rows) for place, entry in enumerate(entries))
    return make_rows(worded, held_out, system_prompt=system_prompt)


def _word(entry: FaqEntry, *, is_judged: bool) -> FaqEntry:
    """Return an entry with the wordings that it is learned by, and judged by, where it comes with one."""
    if len(entry.questions) > 1:
        return entry
    [question] = entry.questions
    judged = [reword(question)] if is_judged else []
    return replace(entry, questions=(question, *judged, *list_rewordings(question, NUM_REWORDINGS)))


def hold_out(index: RowIndex, *, share: float, seed: int) -> HeldOut:
    """Choose the rows to hold out, as `choose_held_out` does."""
    return choose_held_out(index.count_rows(), share=share, seed=seed)


def choose_held_out(num_wordings: Sequence[int], *, share: float, seed: int) -> HeldOut:
    """Choose what to judge by of entries with these many wordings; the same arguments choose the same.

    Of a `share` of the entries, at least one: a wording of those that have several, the question reworded of those that have one.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    chosen = chance.sample(range(len(num_wordings)), max(1, round(share * len(num_wordings))))
    return HeldOut(
        frozenset(
            (entry, chance.randrange(num_wordings[entry]) if num_wordings[entry] > 1 else _JUDGED) for entry in chosen
        )
    )
