"""Tenants: who they are and what each may use."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
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
class TenantLimits:
    """What a tenant may use. 0 is the server's default of `max_requests_in_flight`, a `weight` of 1, and else no limit."""

    max_requests_in_flight: int = 0
    weight: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_prompt_tokens: int = 0
    max_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TenantChange:
    """Which fields of a tenant are to change, and to what; `limits` has them by name."""

    name: TenantName
    display_name: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A company."""

    name: TenantName
    display_name: str
    limits: TenantLimits
    create_time: datetime


class Tenants:
    """Keeps tenants in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: TenantName, *, display_name: str, limits: TenantLimits) -> Tenant:
        """Keep a new tenant and tell servers of it. Raises AlreadyExists when the id is taken."""
        tenant = Tenant(name, display_name, limits, self._clock())

        def insert_tenant(transaction: Connection) -> None:
            try:
                transaction.execute(
                    insert(tables.tenants).values(
                        tenant=name.tenant,
                        display_name=display_name,
                        create_time=tenant.create_time,
                        **asdict(limits),
                    )
                )
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already; choose another id.", metadata={"name": name}) from error
            record_change(transaction, str(name))

        await self._database.write(insert_tenant)
        return tenant

    async def change(self, change: TenantChange) -> Tenant:
        """Change what is to change, and nothing else, and tell servers; what is so already changes nothing. Raises NotFound."""

        def update_tenant(transaction: Connection) -> Tenant:
            before = read_tenant(transaction, change.name)
            display_name = before.display_name if change.display_name is None else change.display_name
            after = replace(before, display_name=display_name, limits=replace(before.limits, **change.limits))
            if after != before:
                table = tables.tenants
                values = {"display_name": display_name, **asdict(after.limits)}
                transaction.execute(update(table).where(table.c.tenant == change.name.tenant).values(values))
                record_change(transaction, str(change.name))
            return after

        return await self._database.write(update_tenant)

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
    limits = TenantLimits(
        max_requests_in_flight=row.max_requests_in_flight,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        tokens_per_day=row.tokens_per_day,
        max_prompt_tokens=row.max_prompt_tokens,
        max_output_tokens=row.max_output_tokens,
    )
    return Tenant(TenantName(row.tenant), row.display_name, limits, row.create_time)
