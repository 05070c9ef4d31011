"""Tenants: who they are and what each may use at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from adaptory.core.auth import not_found
from adaptory.core.errors import AlreadyExists
from adaptory.core.names import TenantName
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.pages import Page, PageRequest


@dataclass(frozen=True, slots=True)
class Tenant:
    """A company. `max_requests_in_flight` of 0 is the server's default."""

    name: TenantName
    display_name: str
    max_requests_in_flight: int
    create_time: datetime


class Tenants:
    """Keeps tenants in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: TenantName, *, display_name: str, max_requests_in_flight: int) -> Tenant:
        """Keep a new tenant and tell servers of it. Raises AlreadyExists when the id is taken."""
        tenant = Tenant(name, display_name, max_requests_in_flight, self._clock())

        def insert_tenant(transaction: Connection) -> None:
            try:
                transaction.execute(
                    insert(tables.tenants).values(
                        tenant=name.tenant,
                        display_name=display_name,
                        max_requests_in_flight=max_requests_in_flight,
                        create_time=tenant.create_time,
                    )
                )
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already; choose another id.", metadata={"name": name}) from error
            record_change(transaction, str(name))

        await self._database.write(insert_tenant)
        return tenant

    async def get(self, name: TenantName) -> Tenant:
        """Return a tenant. Raises NotFound."""
        return await self._database.read(lambda transaction: read_tenant(transaction, name))

    async def list(self, page: PageRequest) -> Page[Tenant]:
        """Return a page of the tenants, by id."""
        column = tables.tenants.c.tenant
        query = select(tables.tenants).where(column > page.after).order_by(column).limit(page.size + 1)
        rows = await self._database.read(lambda transaction: transaction.execute(query).all())
        return page.cut([to_tenant(row) for row in rows], key=lambda tenant: tenant.name.tenant)


def read_tenant(transaction: Connection, name: TenantName) -> Tenant:
    """Return a tenant within a transaction. Raises NotFound."""
    row = transaction.execute(select(tables.tenants).where(tables.tenants.c.tenant == name.tenant)).one_or_none()
    if row is None:
        raise not_found(str(name))
    return to_tenant(row)


def to_tenant(row: Row[Any]) -> Tenant:
    """Turn a row of the table into what it says."""
    return Tenant(TenantName(row.tenant), row.display_name, row.max_requests_in_flight, row.create_time)
