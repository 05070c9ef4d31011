"""How a code completion bot is trained: its recipe, and which of its files are held out for judging.

Whole files are held out, and files that are nearly the same stay on one side: a middle that stands in another file, too, says nothing
of what was learned.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer
from trainer_svc.bots import support
from trainer_svc.bots.code_file import CodeFile
from trainer_svc.bots.code_rows import CutSettings, RowCutter, make_code_rows
from trainer_svc.bots.recipe import Recipe, choose_epochs
from trainer_svc.bots.row import CodeRow, HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.jobs.workspace import TrainingSettings

# House style, not facts by heart: rows are seen once where there are enough of them, each cut elsewhere. They are short, since a step
# reads a whole row and learns some twenty tokens of it; what names and style to go on with stands near.
# Whole files are held out, so two epochs without a gain are enough.
RECIPE = TrainingSettings(
    rank=16,
    alpha=32,
    learning_rate=5e-4,
    epochs=1,
    batch_rows=8,
    max_row_tokens=256,
    seed=0,
    early_stopping_patience=2,
)
HELD_OUT_SHARE = 0.1
# A source file has some 2,000 tokens, of which a row is made for each 128.
_ROWS_PER_FILE, _TOKENS_PER_ROW = 16, 128
_MIN_STEPS = 120
_MAX_EPOCHS = 10
# Of a row's tokens a third at most is its middle: the rest says what belongs there.
_MAX_MIDDLE_TOKENS, _MIDDLE_SHARE = 128, 3


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


def make_rows(
    files: Iterable[CodeFile], held_out: HeldOut, renderer: FimRenderer, training: TrainingSettings
) -> Iterator[CodeRow]:
    """Yield the rows of the files, none longer than `max_row_tokens`. Raises InvalidRequest where that leaves no room for code."""
    max_middle_tokens = min(_MAX_MIDDLE_TOKENS, training.max_row_tokens // _MIDDLE_SHARE)
    cut = CutSettings(training.max_row_tokens, max_middle_tokens, _TOKENS_PER_ROW, training.seed)
    try:
        cutter = RowCutter(renderer, cut)
    except ValueError as error:
        raise InvalidRequest.of_field("training_job.settings.max_row_tokens", f"is too small: {error}") from error
    return make_code_rows(files, held_out, cutter)
