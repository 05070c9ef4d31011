"""The lengths of a job's rows, measured before anything is planned: rows too long are refused, never clipped."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import InvalidRequest
from trainer_svc.bots.row_rendering import LearnedRow, RowRenderer
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.batches import order_places
from trainer_svc.memory.held_out import list_measured_steps


@dataclass(frozen=True, slots=True)
class RowSizes:
    """The lengths in tokens of the rows that are trained on, of those held out, and of those held out that are asked alone.

    All of them have `shared_tokens` first ones in common. Of each row, the last `tail_tokens` are no input of a step: the last one
    that is learned, and what the template puts behind it.
    """

    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    shared_tokens: int
    tail_tokens: int = 0
    asked: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The length of every row."""
        return self.trained + self.held_out + self.asked

    @property
    def judged(self) -> list[int]:
        """The input tokens of each row held out whose loss counts."""
        return [length - self.tail_tokens for length in self.held_out]

    @property
    def asked_alone(self) -> list[int]:
        """The input tokens of each row that is asked and judged by its answer alone."""
        return [length - self.tail_tokens for length in self.asked]

    def cut_batches(self, settings: TrainingSettings) -> list[list[int]]:
        """Return the input tokens of each row in each batch of a job, as the worker will take them."""
        inputs = [length - self.tail_tokens for length in self.trained]
        return [[inputs[place] for place in places] for places in order_places(len(inputs), settings)]

    def cut_longest_judged(self, settings: TrainingSettings) -> list[list[int]]:
        """Return one batch, of the longest rows that are judged on."""
        return [sorted(self.judged + self.asked_alone, reverse=True)[: settings.batch_rows]]

    def count_measurements(self, settings: TrainingSettings) -> int:
        """Return how often the loss on held-out rows is measured while a job trains."""
        return len(list_measured_steps(len(self.trained), settings))


def measure_rows(base: PreparedBase, rows: Iterable[LearnedRow]) -> RowSizes:
    """Render rows as the worker will and return their sizes; one row at a time is held.

    Raises InvalidRequest (TEMPLATE_REFUSES) when the base's template refuses a row.
    """
    renderer = RowRenderer.of(base)
    trained: list[int] = []
    held_out: list[int] = []
    asked: list[int] = []
    shared: tuple[int, ...] | None = None
    tail = sys.maxsize
    for row in rows:
        rendered = renderer.render(row)
        ids, last = rendered.ids, max((place for place, learned in enumerate(rendered.learned) if learned), default=0)
        tail = min(tail, len(ids) - last)
        kind = trained if not row.is_held_out else held_out if row.is_measured else asked
        kind.append(len(ids))
        shared = ids if shared is None else _common_start(shared, ids)
    # Rows that are all alike share no more than their inputs.
    shortest_input = min((*trained, *held_out, *asked), default=0) - tail
    num_shared = min(len(shared or ()), shortest_input)
    return RowSizes(tuple(trained), tuple(held_out), num_shared, tail, tuple(asked))


def _common_start(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    length = next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
    return first[:length]


def require_short_rows(sizes: RowSizes, limit: int, *, field: str) -> None:
    """Raise InvalidRequest when a row has more tokens than the limit in `field`: rows are never clipped."""
    num_long, longest = sum(length > limit for length in sizes.tokens), max(sizes.tokens)
    if num_long:
        sentence = (
            f"is {limit}, but {num_long} of {len(sizes.tokens)} rows are longer, the longest has {longest} tokens; raise it or "
            "shorten the answers, since rows are never clipped"
        )
        raise InvalidRequest.of_field(
            field, sentence, max_row_tokens=limit, num_long_rows=num_long, longest_row_tokens=longest
        )
