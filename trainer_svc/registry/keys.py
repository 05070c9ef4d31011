"""Tenants' API keys: issued once, kept as digests only, revoked for ever."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from adaptory.core.auth import Caller, Role, digest_key, make_key, not_found
from adaptory.core.names import ApiKeyName, TenantName
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.identifiers import make_id
from trainer_svc.registry.pages import Page, PageRequest
from trainer_svc.registry.tenants import read_tenant


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. `secret` is set on the day it is issued and never again; `revoke_time` is None while the key is good."""

    name: ApiKeyName
    display_name: str
    create_time: datetime
    revoke_time: datetime | None = None
    secret: str = ""


class ApiKeys:
    """Keeps keys in the database, and answers whose a key is (a `Keyring`)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, tenant: TenantName, *, display_name: str) -> ApiKey:
        """Issue a key and tell servers of it. Raises NotFound when there is no such tenant."""
        secret = make_key()
        key = ApiKey(ApiKeyName(tenant.tenant, make_id("key")), display_name, self._clock(), secret=secret)

        def insert_key(transaction: Connection) -> None:
            read_tenant(transaction, tenant)
            transaction.execute(
                insert(tables.api_keys).values(
                    tenant=tenant.tenant,
                    key=key.name.key,
                    digest=digest_key(secret),
                    display_name=display_name,
                    create_time=key.create_time,
                )
            )
            record_change(transaction, str(tenant))

        await self._database.write(insert_key)
        return key

    async def list(self, tenant: TenantName, page: PageRequest) -> Page[ApiKey]:
        """Return a page of a tenant's keys, by id. Raises NotFound when there is no such tenant."""
        table = tables.api_keys
        query = (
            select(table)
            .where(table.c.tenant == tenant.tenant, table.c.key > page.after)
            .order_by(table.c.key)
            .limit(page.size + 1)
        )

        def read_keys(transaction: Connection) -> list[ApiKey]:
            read_tenant(transaction, tenant)
            return [_to_key(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_keys), key=lambda key: key.name.key)

    async def revoke(self, name: ApiKeyName) -> ApiKey:
        """Make a key worthless and tell servers of it; a key revoked before stays as it is. Raises NotFound."""
        table = tables.api_keys
        now = self._clock()

        def revoke_key(transaction: Connection) -> ApiKey:
            query = select(table).where(table.c.tenant == name.tenant, table.c.key == name.key)
            row = transaction.execute(query).one_or_none()
            if row is None:
                raise not_found(str(name))
            if row.revoke_time is not None:
                return _to_key(row)
            transaction.execute(update(table).where(table.c.seq == row.seq).values(revoke_time=now))
            record_change(transaction, str(TenantName(name.tenant)))
            return replace(_to_key(row), revoke_time=now)

        return await self._database.write(revoke_key)

    async def find_caller(self, key_digest: str) -> Caller | None:
        """Return whose key has this digest, None when nobody's or when it was revoked."""
        table = tables.api_keys
        query = select(table.c.tenant).where(table.c.digest == key_digest, table.c.revoke_time.is_(None))
        tenant = await self._database.read(lambda transaction: transaction.execute(query).scalar_one_or_none())
        return None if tenant is None else Caller(Role.TENANT, tenant)


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(ApiKeyName(row.tenant, row.key), row.display_name, row.create_time, row.revoke_time)
