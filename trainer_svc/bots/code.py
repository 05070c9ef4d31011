"""How a code completion bot is trained: its recipe, and which of its files are held out for judging.

Whole files are held out, and files that are nearly the same stay on one side: a middle that stands in another file, too, says nothing
of what was learned.
"""

from dataclasses import replace

from trainer_svc.bots import support
from trainer_svc.bots.recipe import Recipe, choose_epochs
from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.jobs.workspace import TrainingSettings

# House style, not facts by heart: most rows are seen once or twice, each cut elsewhere.
RECIPE = TrainingSettings(rank=16, alpha=32, learning_rate=5e-4, epochs=1, batch_rows=8, max_row_tokens=512, seed=0)
HELD_OUT_SHARE = 0.1
# A source file has some 2,000 tokens (the standard library's median), from which `CutSettings` makes a row for each 64.
_ROWS_PER_FILE = 30
_MIN_STEPS = 150
_MAX_EPOCHS = 10


def choose_recipe(num_files: int) -> Recipe:
    """Return the recipe for so many files."""
    epochs = choose_epochs(
        num_files * _ROWS_PER_FILE,
        batch_rows=RECIPE.batch_rows,
        min_steps=_MIN_STEPS,
        fewest=RECIPE.epochs,
        most=_MAX_EPOCHS,
    )
    return Recipe(replace(RECIPE, epochs=epochs), HELD_OUT_SHARE)


def hold_out(index: RowIndex, *, share: float, seed: int) -> HeldOut:
    """Choose the files to hold out: whole groups of files that are nearly the same, as conversations of support bots are."""
    return support.choose_held_out(index.group(), share=share, seed=seed)
