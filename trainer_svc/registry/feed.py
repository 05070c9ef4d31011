"""Tells servers what exists: a snapshot, then every change, in milliseconds and without a backlog.

A watcher keeps nothing but the generation it has seen. After a commit it reads the names changed since then and sends what they are
now; one that fell far behind gets a snapshot again. So a slow server costs nothing, and no change can be missed.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select

from adaptory.core.errors import NotFound
from adaptory.core.names import BotName, TenantName, VersionName
from trainer_svc.registry import tables
from trainer_svc.registry.bots import Bot, read_bot, to_bot
from trainer_svc.registry.changes import read_changed_names, read_generation
from trainer_svc.registry.database import Database
from trainer_svc.registry.tenants import Tenant, read_tenant, to_tenant
from trainer_svc.registry.versions import Version, VersionState, read_version, to_version

_MAX_NAMES_IN_DELTA = 500


@dataclass(frozen=True, slots=True)
class ServedTenant:
    """A tenant with the SHA-256 of each of its good keys."""

    tenant: Tenant
    key_digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeedUpdate:
    """All there is, or what changed; `removed` has the resource names of what is gone."""

    generation: int
    is_snapshot: bool
    tenants: tuple[ServedTenant, ...]
    bots: tuple[Bot, ...]
    versions: tuple[Version, ...]
    removed: tuple[str, ...] = ()


class ServingFeed:
    """Follows the registry for servers."""

    def __init__(self, database: Database, *, max_names: int = _MAX_NAMES_IN_DELTA) -> None:
        """Tell of at most `max_names` changes in a delta; where there are more, send a snapshot."""
        self._database = database
        self._max_names = max_names

    async def watch(self) -> AsyncGenerator[FeedUpdate, None]:
        """Yield a snapshot, then every change as it is committed. Raises Unavailable when the service stops."""
        # Counted before reading: a commit in between then wakes us again, at worst for nothing.
        commits = self._database.commits.count
        update = await self._database.read(_read_snapshot)
        while True:
            yield update
            generation = update.generation
            while update.generation == generation:
                commits = await self._database.commits.wait_beyond(commits)
                update = await self._database.read(partial(self._read_update, seen=generation))

    def _read_update(self, transaction: Connection, *, seen: int) -> FeedUpdate:
        names = read_changed_names(transaction, after=seen, limit=self._max_names)
        return _read_snapshot(transaction) if names is None else _read_delta(transaction, names)


def _read_snapshot(transaction: Connection) -> FeedUpdate:
    ready = tables.versions.c.state == VersionState.READY
    return FeedUpdate(
        generation=read_generation(transaction),
        is_snapshot=True,
        tenants=tuple(
            _with_keys(transaction, to_tenant(row)) for row in transaction.execute(select(tables.tenants)).all()
        ),
        bots=tuple(to_bot(row) for row in transaction.execute(select(tables.bots))),
        versions=tuple(to_version(row) for row in transaction.execute(select(tables.versions).where(ready))),
    )


def _read_delta(transaction: Connection, names: Sequence[str]) -> FeedUpdate:
    tenants, bots, versions, removed = [], [], [], []
    for name in names:
        try:
            match name.count("/"):
                case 1:
                    tenant = read_tenant(transaction, TenantName.parse(name, field="name"))
                    tenants.append(_with_keys(transaction, tenant))
                case 3:
                    bots.append(read_bot(transaction, BotName.parse(name, field="name")))
                case _:
                    versions.append(_read_served_version(transaction, VersionName.parse(name, field="name")))
        except NotFound:
            removed.append(name)
    return FeedUpdate(
        generation=read_generation(transaction),
        is_snapshot=False,
        tenants=tuple(tenants),
        bots=tuple(bots),
        versions=tuple(versions),
        removed=tuple(removed),
    )


def _read_served_version(transaction: Connection, name: VersionName) -> Version:
    version = read_version(transaction, name)
    if version.state is not VersionState.READY:
        raise NotFound(f"{name} may not answer any more.")
    return version


def _with_keys(transaction: Connection, tenant: Tenant) -> ServedTenant:
    table = tables.api_keys
    query = (
        select(table.c.digest)
        .where(table.c.tenant == tenant.name.tenant, table.c.revoke_time.is_(None))
        .order_by(table.c.digest)
    )
    return ServedTenant(tenant, tuple(transaction.execute(query).scalars()))
