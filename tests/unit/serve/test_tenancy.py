"""Keys of the routing table, and the places a tenant may hold."""

import asyncio

import pytest

from adaptory.core.auth import Caller, Role
from adaptory.core.errors import Busy, Unavailable
from adaptory.core.names import TenantName
from serve_svc.routing import NOTHING_KNOWN, BaseIdentity, Delta, RoutedTenant, Router
from serve_svc.tenancy import Intake, TableKeyring


def router_with(*tenants: RoutedTenant) -> Router:
    """Return a router that knows these tenants."""
    router = Router(BaseIdentity("tiny", "b" * 64, "c" * 64))
    router.table = NOTHING_KNOWN.apply(Delta(generation=1, tenants=tenants))
    return router


async def test_a_key_is_its_tenants_until_the_table_says_otherwise() -> None:
    """A change of the table is a change of the keys, from the next call on."""
    router = router_with(RoutedTenant(TenantName("acme"), frozenset({"old"}), 32))
    keyring = TableKeyring(router)
    assert await keyring.find_caller("old") == Caller(Role.TENANT, "acme")

    tenant = RoutedTenant(TenantName("acme"), frozenset({"new"}), 32)
    router.table = router.table.apply(Delta(generation=2, tenants=(tenant,)))

    assert await keyring.find_caller("old") is None
    assert await keyring.find_caller("new") == Caller(Role.TENANT, "acme")


async def test_keys_are_not_unknown_but_unavailable_before_the_registry_is_heard() -> None:
    """A good key is not called bad by a server that cannot know."""
    keyring = TableKeyring(Router(BaseIdentity("tiny", "b" * 64, "c" * 64)))

    with pytest.raises(Unavailable):
        await keyring.find_caller("any")


def test_one_tenants_limit_costs_another_nothing() -> None:
    """Places are counted by tenant, and come back."""
    intake = Intake()
    with intake.hold_place("acme", 1):
        with pytest.raises(Busy), intake.hold_place("acme", 1):
            pass
        with intake.hold_place("globex", 1):
            assert intake.num_running == 2

    with intake.hold_place("acme", 1):
        assert intake.num_running == 1


async def test_draining_waits_for_what_runs_and_takes_nothing_new() -> None:
    """Drain returns when the last request has ended, with the number there was at its start."""
    intake = Intake()
    with intake.hold_place("acme", 8):
        draining = asyncio.create_task(intake.drain())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="draining"), intake.hold_place("acme", 8):
            pass
        assert not draining.done()

    assert await draining == 1
