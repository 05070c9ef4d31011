"""How a bot is trained where the caller does not say: chosen by the kind of bot and by how much data there is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer_svc.jobs.workspace import TrainingSettings


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


def choose_epochs(num_rows: int, *, batch_rows: int, min_steps: int, fewest: int, most: int) -> int:
    """Return the epochs that make about `min_steps` optimizer steps of so many rows, within bounds.

    What an adapter learns depends on the steps it takes: a small dataset needs more passes to get them.
    """
    steps_per_epoch = -(-num_rows // batch_rows)
    return min(most, max(fewest, -(-min_steps // max(1, steps_per_epoch))))
