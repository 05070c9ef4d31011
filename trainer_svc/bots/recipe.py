"""How a bot is trained where the caller does not say: chosen by the kind of bot and by how much data there is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer_svc.jobs.workspace import TrainingSettings

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
    """Settings of the training, and the share of rows that are kept from it for judging."""

    training: TrainingSettings
    held_out_share: float

    def fit(self, max_tokens: int) -> "Recipe":
        """Return the recipe for a base that takes at most so many tokens."""
        return replace(
            self, training=replace(self.training, max_row_tokens=min(self.training.max_row_tokens, max_tokens))
        )

    def override(self, given: Mapping[str, int | float]) -> "Recipe":
        """Return the recipe with what a caller gave by the names of TrainingSettings, and `held_out_share`, in place of its own."""
        training = {name: value for name, value in given.items() if name != "held_out_share"}
        # The names and types were checked where the request was read.
        settings = replace(self.training, **training)  # type: ignore[arg-type]
        return Recipe(settings, given.get("held_out_share", self.held_out_share))


@dataclass(frozen=True, slots=True)
class RecipeRule:
    """How the recipe of a kind of bot follows from the size of its data.

    What an adapter learns depends on the steps it takes: a small dataset is passed over more often, to make about `min_steps` of
    them, but at most `max_epochs` times; `training.epochs` are the fewest. A third of the epochs may pass without a gain before it
    stops, and never fewer than `training` says. A row of the data's report makes `num_cuts` rows to train on, about: of code it is a
    whole file.
    """

    training: TrainingSettings
    held_out_share: float
    min_steps: int
    max_epochs: int
    num_cuts: int = 1

    def choose(self, size: DataSize) -> Recipe:
        """Return the recipe for data of so many rows."""
        steps_per_epoch = max(1, -(-size.num_rows * self.num_cuts // self.training.batch_rows))
        epochs = min(self.max_epochs, max(self.training.epochs, -(-self.min_steps // steps_per_epoch)))
        patience = max(self.training.early_stopping_patience, round(_PATIENCE_SHARE * epochs))
        return Recipe(replace(self.training, epochs=epochs, early_stopping_patience=patience), self.held_out_share)
