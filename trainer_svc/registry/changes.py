"""The log of what servers must hear of: the name of each thing that changed, under a generation that only rises.

A row is written in the transaction of the change itself, so that the feed can neither miss one nor tell of one that did not happen.
"""

from sqlalchemy import Connection, delete, func, insert, select

from trainer_svc.registry import tables

# A server further behind than this gets a snapshot; the log stays small for ever.
MAX_CHANGES_KEPT = 10_000


def record_change(transaction: Connection, name: str) -> None:
    """Note that the tenant, bot or version of this resource name is new, changed or gone."""
    column = tables.changes.c.generation
    generation = transaction.execute(insert(tables.changes).values(name=name).returning(column)).scalar_one()
    transaction.execute(delete(tables.changes).where(column <= generation - MAX_CHANGES_KEPT))


def read_generation(transaction: Connection) -> int:
    """Return the newest generation, 1 or more."""
    return int(transaction.execute(select(func.max(tables.changes.c.generation))).scalar_one())


def read_changed_names(transaction: Connection, *, after: int, limit: int) -> list[str] | None:
    """Return the names changed after a generation, each once; None when they are too many or no longer known."""
    column = tables.changes.c.generation
    oldest = transaction.execute(select(func.min(column))).scalar_one()
    rows = transaction.execute(select(tables.changes.c.name).where(column > after).order_by(column).limit(limit + 1))
    names = list(rows.scalars())
    if after + 1 < oldest or len(names) > limit:
        return None
    return list(dict.fromkeys(names))
