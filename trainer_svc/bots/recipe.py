"""How a bot is trained where the caller does not say: chosen by the kind of bot and by how much data there is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from adaptory.core.base_shape import BaseShape
from trainer_svc.jobs.workspace import TrainingSettings

# Recipes were measured on SmolLM2-135M. The best rate of LoRA falls with the width of the base, by a power that was fitted to Llama
# models (https://tinker-docs.thinkingmachines.ai/supervised-learning/sl-hyperparams). It brings the FAQ recipe's 0.001 to 0.00022
# for 4,096, where QLoRA (arXiv:2305.14314, table 9) trained 7B with 0.0002.
_MEASURED_HIDDEN_SIZE, _RATE_POWER, _RATE_DIGITS = 576, 0.781, 2
# Epochs of small data are a few steps each, in which a loss on as few rows wavers: three bots of 38 facts, in 20 epochs, that stopped
# after three without a gain ended at half of their steps, with a token F1 of 0.62, 0.53 and 0.24; with seven, 0.68, 0.61 and 0.29.
_PATIENCE_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class DataSize:
    """How much data there is: rows of its report, tasks with a test, tokens of the longest row where counted, entries of one row."""

    num_rows: int
    num_tests: int = 0
    longest_row_tokens: int = 0
    num_single_rows: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of the training, and the share of rows that are kept from it for judging.

    By `family_scales` the rate is multiplied for bases of a family (`BaseShape.model_type`) that learns at another one.
    """

    training: TrainingSettings
    held_out_share: float
    family_scales: Mapping[str, float] = field(default_factory=dict)

    def fit(self, shape: BaseShape) -> "Recipe":
        """Return the recipe for a base: rows no longer than it takes, and the rate of its family and width."""
        training, scale = self.training, self.family_scales.get(shape.model_type, 1.0)
        rate = training.learning_rate * scale * min(1.0, _MEASURED_HIDDEN_SIZE / shape.hidden_size) ** _RATE_POWER
        fitted = replace(
            training,
            learning_rate=float(f"{rate:.{_RATE_DIGITS}g}"),
            max_row_tokens=min(training.max_row_tokens, shape.max_tokens),
        )
        return replace(self, training=fitted)

    def override(self, given: Mapping[str, int | float]) -> "Recipe":
        """Return the recipe with what a caller gave by the names of TrainingSettings, and `held_out_share`, in place of its own."""
        training = {name: value for name, value in given.items() if name != "held_out_share"}
        # The names and types were checked where the request was read.
        settings = replace(self.training, **training)  # type: ignore[arg-type]
        return replace(self, training=settings, held_out_share=given.get("held_out_share", self.held_out_share))


@dataclass(frozen=True, slots=True)
class RecipeRule:
    """How the recipe of a kind of bot follows from the size of its data.

    What an adapter learns depends on the steps it takes: a small dataset is passed over more often, to make about `min_steps` of
    them, but at most `max_epochs` times; `training.epochs` are the fewest. A third of the epochs may pass without a gain before it
    stops, and never fewer than `training` says. A row of the data's report makes `num_cuts` rows to train on, about: of code it is a
    whole file. `family_scales` are a recipe's.
    """

    training: TrainingSettings
    held_out_share: float
    min_steps: int
    max_epochs: int
    num_cuts: int = 1
    family_scales: Mapping[str, float] = field(default_factory=dict)

    def choose(self, size: DataSize) -> Recipe:
        """Return the recipe for data of so many rows."""
        steps_per_epoch = max(1, -(-size.num_rows * self.num_cuts // self.training.batch_rows))
        epochs = min(self.max_epochs, max(self.training.epochs, -(-self.min_steps // steps_per_epoch)))
        patience = max(self.training.early_stopping_patience, round(_PATIENCE_SHARE * epochs))
        training = replace(self.training, epochs=epochs, early_stopping_patience=patience)
        return Recipe(training, self.held_out_share, self.family_scales)
