"""The two services meet: serve_svc's own client of the registry, against the registry that trainer_svc serves."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from adaptory.core.adapter_check import adapter_digest
from adaptory.registry.v1 import registry_service_pb2
from serve_svc.adapters.files import AdapterFiles
from serve_svc.registry.client import RegistryClient
from serve_svc.routing import Delta, RoutingTable
from tests.fakes.trainer import Trainer


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer with one READY version of aurora's bot."""
    async with Trainer(tmp_path) as started:
        await started.add_tenant("aurora")
        await started.train("aurora")
        yield started


@pytest.fixture
async def client(trainer: Trainer) -> AsyncIterator[RegistryClient]:
    """A server's client of that trainer."""
    key = (trainer.folder / "state" / "server.key").read_text().strip()
    async with grpc.aio.insecure_channel(trainer.endpoint.grpc) as channel:
        yield RegistryClient(channel, lambda: key)


async def test_a_server_routes_by_what_the_trainer_tells(trainer: Trainer, client: RegistryClient) -> None:
    """A snapshot is a whole table; a promotion is a delta that the table takes."""
    updates = client.watch()
    table = await anext(updates)
    assert isinstance(table, RoutingTable)
    (version,) = table.versions

    await trainer.registry.PromoteVersion(
        registry_service_pb2.PromoteVersionRequest(name=version), metadata=trainer.admin
    )
    delta = await anext(updates)
    await updates.aclose()

    assert isinstance(delta, Delta)
    assert str(table.apply(delta).bots["tenants/aurora/bots/faq"].production) == version


async def test_a_server_fetches_the_adapter_that_was_registered(trainer: Trainer, client: RegistryClient) -> None:
    """The folder the engine will load has the digest of the version."""
    table = await anext(client.watch())
    assert isinstance(table, RoutingTable)
    (routed,) = table.versions.values()

    folder = await AdapterFiles(trainer.folder / "adapters", client).fetch(routed.adapter)

    assert adapter_digest(folder) == routed.adapter.digest
