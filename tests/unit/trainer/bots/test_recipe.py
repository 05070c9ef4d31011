"""Recipes by kind and size of data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.base_shape import BaseShape
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.recipe import DataSize, Recipe
from trainer_svc.bots.teaching import served_kinds, teaching_of

kinds = pytest.mark.parametrize("kind", served_kinds())


def steps(recipe: Recipe, num_rows: int) -> int:
    """Return the optimizer steps a recipe takes on so many rows."""
    return recipe.training.epochs * -(-num_rows // recipe.training.batch_rows)


def make_shape(hidden_size: int, max_tokens: int = 4096, model_type: str = "llama") -> BaseShape:
    """Return the shape of a base of such a width."""
    return BaseShape(model_type, hidden_size, 4 * hidden_size, 32, 32, 32, hidden_size // 32, 32_000, max_tokens, False)


@kinds
@given(num_rows=st.integers(2, 200_000))
def test_more_data_is_never_passed_over_more_often(kind: BotKind, num_rows: int) -> None:
    """Epochs fall with the rows, and the steps they make do not fall below those of less data by more than a rounding."""
    choose = teaching_of(kind).choose_recipe
    fewer, more = choose(DataSize(num_rows)), choose(DataSize(num_rows + 50))

    assert more.training.epochs <= fewer.training.epochs
    assert steps(more, num_rows + 50) >= 0.5 * steps(fewer, num_rows)


@pytest.mark.parametrize(
    ("kind", "num_rows", "epochs"),
    [
        (BotKind.FAQ, 12, 20),
        (BotKind.FAQ, 160, 6),
        (BotKind.FAQ, 2_000, 6),
        (BotKind.SUPPORT, 12, 10),
        (BotKind.SUPPORT, 952, 2),
    ],
)
def test_small_data_is_passed_over_more_often(kind: BotKind, num_rows: int, epochs: int) -> None:
    """So few rows would else end before much was learned."""
    assert teaching_of(kind).choose_recipe(DataSize(num_rows)).training.epochs == epochs


def test_what_a_caller_gives_is_kept() -> None:
    """Every setting can be overridden, the share held out along, and a base's limit bounds the rest."""
    fitted = teaching_of(BotKind.SUPPORT).choose_recipe(DataSize(100)).fit(make_shape(4096, max_tokens=512))
    recipe = fitted.override({"rank": 4, "held_out_share": 0.25, "learning_rate": 0.003})

    assert (recipe.training.rank, recipe.held_out_share, recipe.training.max_row_tokens) == (4, 0.25, 512)
    assert recipe.training.learning_rate == 0.003


@pytest.mark.parametrize(
    ("hidden_size", "rate"), [(64, 0.001), (576, 0.001), (2048, 0.00037), (4096, 0.00022), (5120, 0.00018)]
)
def test_a_wider_base_learns_at_a_lower_rate(hidden_size: int, rate: float) -> None:
    """What suits 135M wrecks 7B; QLoRA's authors trained 7B and 13B with 0.0002."""
    recipe = teaching_of(BotKind.FAQ).choose_recipe(DataSize(100)).fit(make_shape(hidden_size))

    assert recipe.training.learning_rate == rate


@pytest.mark.parametrize(("kind", "rate"), [(BotKind.FAQ, 0.0003), (BotKind.SUPPORT, 0.00046)])
def test_a_family_that_forgets_fast_learns_an_faq_at_a_lower_rate(kind: BotKind, rate: float) -> None:
    """Gemma 3 270M, at the rates it was measured with."""
    recipe = teaching_of(kind).choose_recipe(DataSize(100)).fit(make_shape(640, model_type="gemma3_text"))

    assert recipe.training.learning_rate == rate


def test_tasks_are_rows_of_their_own_and_asked_whole() -> None:
    """A task makes one row where a file makes many, so it is passed over more often, and rows are as long as the longest task."""
    choose = teaching_of(BotKind.CODE_COMPLETION).choose_recipe
    files, tasks = choose(DataSize(100)), choose(DataSize(100, num_tests=100, longest_row_tokens=400))

    assert tasks.training.epochs > files.training.epochs
    assert (files.training.max_row_tokens, tasks.training.max_row_tokens) == (256, 432)
