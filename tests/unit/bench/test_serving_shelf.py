"""Adapters of the serving measurement, and the registry that has them: what serve_svc itself makes of both."""

from pathlib import Path

import grpc
import pytest

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from bench.serving.registry import BenchRegistry
from bench.serving.shelf import RANK, AdapterShelf
from serve_svc.adapters.files import AdapterFiles
from serve_svc.registry.client import RegistryClient
from serve_svc.routing import Delta, RoutingTable
from tests.adapters import tiny_shape
from tests.fakes.base import write_base


@pytest.fixture
def shelf(tmp_path: Path) -> AdapterShelf:
    """Adapters for a tiny base."""
    return AdapterShelf.write(tmp_path / "shelf", tiny_shape())


def test_each_adapter_is_good_and_another(shelf: AdapterShelf) -> None:
    """The product's own check takes them, their digests are those of their folders, and no two are equal."""
    for number in (1, 2):
        report = check_adapter(shelf.find_folder(number), tiny_shape(), AdapterLimits(max_rank=RANK))
        assert (report.digest, report.size_bytes, report.rank) == (shelf.digest(number), shelf.size_bytes(number), RANK)
    assert adapter_digest(shelf.find_folder(1)) != adapter_digest(shelf.find_folder(2))
    assert shelf.find_folder(1) == AdapterShelf(shelf.weights_file.parent).find_folder(1)


async def test_a_server_can_follow_the_registry(shelf: AdapterShelf, tmp_path: Path) -> None:
    """serve_svc's own client reads all speakers, their adapters to the byte, and each promotion of the next version."""
    async with (
        BenchRegistry(write_base(tmp_path), shelf, num_speakers=3, num_versions=4) as registry,
        grpc.aio.insecure_channel(registry.address) as channel,
    ):
        client = RegistryClient(channel, lambda: "adk_any")
        updates = client.watch()
        table = await anext(updates)
        assert isinstance(table, RoutingTable)
        registry.promote_next(0)
        change = await anext(updates)
        await updates.aclose()
        files = AdapterFiles(tmp_path / "fetched", client)
        ids = set()
        for version in table.versions.values():
            folder = await files.fetch(version.adapter)
            ids.add(version.adapter.engine_id)
            assert adapter_digest(folder) == version.adapter.digest

    assert isinstance(change, Delta)
    assert [str(bot.production) for bot in change.bots] == ["tenants/t0/bots/bot/versions/2"]
    assert sorted(table.bots) == [registry.bot_of(speaker) for speaker in range(3)]
    assert len(ids) == len(table.versions) == 3 + 3
