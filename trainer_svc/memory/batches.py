"""Which rows make up each optimizer step: decided here once, so that a plan knows the very batches the worker will take."""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import numpy as np


class BatchSettings(Protocol):
    """What decides the batches."""

    @property
    def batch_rows(self) -> int:
        """Rows per optimizer step."""

    @property
    def epochs(self) -> int:
        """Passes over the rows."""

    @property
    def seed(self) -> int:
        """Decides the order."""

    @property
    def max_steps(self) -> int | None:
        """Steps after which training stops, if it does not end before."""


def order_places(num_rows: int, settings: BatchSettings) -> Iterator[np.ndarray]:
    """Yield the places of each step's rows: every epoch a new order, the same for the same seed; its last batch may be smaller."""
    return islice(_order_epochs(num_rows, settings), settings.max_steps)


def count_steps(num_rows: int, settings: BatchSettings) -> int:
    """Return the optimizer steps of a job."""
    num_batches = settings.epochs * -(-num_rows // settings.batch_rows)
    return min(num_batches, settings.max_steps or num_batches)


def _order_epochs(num_rows: int, settings: BatchSettings) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        order = generator.permutation(num_rows)
        for begin in range(0, num_rows, settings.batch_rows):
            yield order[begin : begin + settings.batch_rows]
