"""When the loss on held-out rows is measured while a job trains, and on which of them: decided once, for plan and worker."""

from collections.abc import Sequence
from typing import TypeVar

from trainer_svc.memory.batches import BatchSettings, count_steps

# So many rows tell one epoch from the next, since they are the same each time. A share of 5 % has more of them only where an epoch
# has over 1,200 rows, and there measuring costs less than 2 % of it: no gradients are taken, which is a third of a step's work.
MAX_MEASURED = 64

Item = TypeVar("Item")


def list_measured_steps(num_rows: int, settings: BatchSettings) -> list[int]:
    """Return the steps, counted from 1, after which the loss is measured: the last one of each epoch, and the last one of all."""
    num_steps, epoch_steps = count_steps(num_rows, settings), -(-num_rows // settings.batch_rows)
    return sorted({*range(epoch_steps, num_steps + 1, epoch_steps), num_steps})


def choose_measured(held_out: Sequence[Item]) -> list[Item]:
    """Return the rows to measure on, at most `MAX_MEASURED`; always the same ones."""
    return choose_evenly(held_out, MAX_MEASURED)


def choose_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many, spread evenly over all, in their order."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]
