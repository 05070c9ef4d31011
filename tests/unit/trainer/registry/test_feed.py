"""The feed of servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adaptory.core.auth import digest_key
from adaptory.core.errors import Unavailable
from adaptory.core.names import ApiKeyName, TenantName
from trainer_svc.clock import read_utc
from trainer_svc.registry.database import Database
from trainer_svc.registry.feed import ServingFeed
from trainer_svc.registry.keys import ApiKeys
from trainer_svc.registry.tenants import TenantLimits, Tenants

AURORA = TenantName("aurora")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database with the tenant aurora."""
    with Database(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        await Tenants(opened, read_utc).create(AURORA, display_name="", limits=TenantLimits())
        yield opened


async def test_a_snapshot_comes_first_then_deltas(database: Database) -> None:
    """A watcher sees all there is, then each change with a higher generation."""
    updates = ServingFeed(database).watch()
    first = await anext(updates)

    await Tenants(database, read_utc).create(
        TenantName("borealis"), display_name="", limits=TenantLimits(max_requests_in_flight=3)
    )
    second = await anext(updates)

    assert [(first.is_snapshot, len(first.tenants)), (second.is_snapshot, len(second.tenants))] == [
        (True, 1),
        (False, 1),
    ]
    assert second.generation > first.generation


async def test_a_fresh_server_is_behind_an_empty_registry(tmp_path: Path) -> None:
    """The first generation is 1, so that a server at 0 takes the first snapshot."""
    with Database(f"sqlite:///{tmp_path / 'empty.db'}") as empty:
        assert (await anext(ServingFeed(empty).watch())).generation == 1


async def test_revoked_keys_leave_the_feed(database: Database) -> None:
    """A key is in the feed by its digest while it is good, and gone once it is revoked."""
    keys = ApiKeys(database, read_utc)
    updates = ServingFeed(database).watch()
    await anext(updates)

    key = await keys.create(AURORA, display_name="")
    issued = (await anext(updates)).tenants[0].key_digests
    await keys.revoke(ApiKeyName("aurora", key.name.key))
    revoked = (await anext(updates)).tenants[0].key_digests

    assert (issued, revoked) == ((digest_key(key.secret),), ())


async def test_changes_while_nobody_reads_come_as_one_delta(database: Database) -> None:
    """A slow watcher gets each changed thing once, as it is now."""
    keys = ApiKeys(database, read_utc)
    updates = ServingFeed(database).watch()
    await anext(updates)

    for _ in range(3):
        await keys.create(AURORA, display_name="")
    delta = await anext(updates)

    assert [len(tenant.key_digests) for tenant in delta.tenants] == [3]


async def test_a_watcher_far_behind_gets_a_snapshot(database: Database) -> None:
    """More changed names than a delta may have are told as the whole state."""
    updates = ServingFeed(database, max_names=2).watch()
    await anext(updates)

    for number in range(3):
        await Tenants(database, read_utc).create(TenantName(f"t{number}"), display_name="", limits=TenantLimits())
    update = await anext(updates)

    assert (update.is_snapshot, len(update.tenants)) == (True, 4)


async def test_a_stop_ends_every_watch(database: Database) -> None:
    """Watchers are told that the service stops, and that they may call again."""
    updates = ServingFeed(database).watch()
    await anext(updates)
    database.commits.close()

    with pytest.raises(Unavailable) as ended:
        await anext(updates)

    assert ended.value.reason == "STOPPING"
