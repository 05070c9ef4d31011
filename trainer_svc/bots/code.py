"""How a code completion bot is trained: its recipe, and how its files are cut. Which are held out is `grouped_split`'s."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer
from trainer_svc.bots.code_file import CodeFile
from trainer_svc.bots.code_rows import CutSettings, RowCutter, make_code_rows
from trainer_svc.bots.code_task import CodeTask
from trainer_svc.bots.recipe import DataSize, Recipe, RecipeRule
from trainer_svc.bots.row import CodeRow, HeldOut
from trainer_svc.jobs.workspace import TrainingSettings

# House style, not facts by heart: rows are seen once where there are enough of them, each cut elsewhere. They are short, since what
# names and style to go on with stands near. Of the rates 0.0005 and 0.001 the latter left the lower loss on held-out lines of 76
# files (2.74 and 2.55, from 4.07). Whole files are held out, so two epochs without a gain are enough.
RECIPE = TrainingSettings(
    rank=16,
    alpha=32,
    learning_rate=1e-3,
    epochs=1,
    batch_rows=8,
    max_row_tokens=256,
    seed=0,
    early_stopping_patience=2,
)
# A source file has some 2,000 tokens, of which a row is made for each 128.
_ROWS_PER_FILE, _TOKENS_PER_ROW = 16, 128
# Of a row's tokens a third at most is its middle: the rest says what belongs there.
_MAX_MIDDLE_TOKENS, _MIDDLE_SHARE = 128, 3
RECIPE_RULE = RecipeRule(RECIPE, held_out_share=0.1, min_steps=120, max_epochs=10, num_cuts=_ROWS_PER_FILE)

# Tasks are asked whole: their rows are as long as the longest of them, up to here, and a few tokens for the form of the base.
_MAX_TASK_TOKENS, _FORM_TOKENS = 512, 32


def choose_recipe(size: DataSize) -> Recipe:
    """Return the recipe for data of this size: a task makes one row, where a file makes `_ROWS_PER_FILE`, and is not trimmed."""
    num_files = size.num_rows - size.num_tests
    recipe = RECIPE_RULE.choose(DataSize(num_files + -(-size.num_tests // _ROWS_PER_FILE)))
    longest = min(_MAX_TASK_TOKENS, size.longest_row_tokens) + _FORM_TOKENS if size.num_tests else 0
    return replace(
        recipe, training=replace(recipe.training, max_row_tokens=max(longest, recipe.training.max_row_tokens))
    )


def make_rows(
    files: Iterable[CodeFile | CodeTask], held_out: HeldOut, renderer: FimRenderer, training: TrainingSettings
) -> Iterator[CodeRow]:
    """Yield the rows of files and tasks, none longer than `max_row_tokens`. Raises InvalidRequest where no code fits into that."""
    max_middle_tokens = min(_MAX_MIDDLE_TOKENS, training.max_row_tokens // _MIDDLE_SHARE)
    cut = CutSettings(training.max_row_tokens, max_middle_tokens, _TOKENS_PER_ROW, training.seed)
    try:
        cutter = RowCutter(renderer, cut)
    except ValueError as error:
        raise InvalidRequest.of_field("training_job.settings.max_row_tokens", f"is too small: {error}") from error
    return make_code_rows(files, held_out, cutter)
