"""Remembers `request_id`s, so that a request sent twice is carried out once.

The id is noted in the transaction that creates the thing: two equal requests at once make one thing, too.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from adaptory.core.errors import AlreadyExists
from trainer_svc.registry import tables


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Which request of which tenant it is. `digest` is of everything in the request; an empty `request_id` is never remembered."""

    tenant: str
    request_id: str
    digest: str


def find_answer(transaction: Connection, request: RequestKey) -> str | None:
    """Return the id of what the request made the first time, None when it is new.

    Raises AlreadyExists (REQUEST_ID_REUSED) when the id came with another request before.
    """
    table = tables.requests
    query = select(table).where(table.c.tenant == request.tenant, table.c.request_id == request.request_id)
    row = transaction.execute(query).one_or_none()
    if row is None:
        return None
    if row.request_digest != request.digest:
        message = f"The request id {request.request_id} was used before, with another request; choose a new id."
        raise AlreadyExists(message, reason="REQUEST_ID_REUSED", metadata={"request_id": request.request_id})
    return str(row.name)


def record_answer(transaction: Connection, request: RequestKey, *, name: str, now: datetime) -> None:
    """Note what the request made."""
    if request.request_id:
        transaction.execute(
            insert(tables.requests).values(
                tenant=request.tenant,
                request_id=request.request_id,
                request_digest=request.digest,
                name=name,
                create_time=now,
            )
        )
