"""The two services meet: serve_svc's own client reports to the ledger that trainer_svc keeps, and hears of limits from it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from adaptory.core.errors import AlreadyExists
from adaptory.core.names import VersionName
from adaptory.core.usage import UsageCounts, UsageKey, parse_usage
from adaptory.registry.v1 import registry_service_pb2, tenant_pb2, usage_service_pb2, usage_service_pb2_grpc
from serve_svc.registry.client import RegistryClient
from serve_svc.routing import Delta, RoutingTable
from serve_svc.usage.day_tokens import DayTotals
from serve_svc.usage.quota import Quota
from serve_svc.usage.spool import UsageReport
from tests.fakes.trainer import Trainer


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer with the tenant aurora, which may use a thousand tokens a day."""
    async with Trainer(tmp_path) as started:
        await started.add_tenant("aurora")
        await limit(started, tokens_per_day=1_000)
        yield started


@pytest.fixture
async def client(trainer: Trainer) -> AsyncIterator[RegistryClient]:
    """A server's client of that trainer."""
    key = (trainer.folder / "state" / "server.key").read_text().strip()
    async with grpc.aio.insecure_channel(trainer.endpoint.grpc) as channel:
        yield RegistryClient(channel, lambda: key)


async def limit(trainer: Trainer, **limits: int) -> None:
    """Change these limits of aurora."""
    tenant = tenant_pb2.Tenant(name="tenants/aurora", limits=tenant_pb2.TenantLimits(**limits))
    mask = FieldMask(paths=[f"limits.{name}" for name in limits])
    request = registry_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask)
    await trainer.registry.UpdateTenant(request, metadata=trainer.admin)


async def test_a_report_is_counted_once_and_answered_with_the_days_totals(
    trainer: Trainer, client: RegistryClient
) -> None:
    """What a server reports is what the operator reads; a number that was used for other records is told as such."""
    today = datetime.now(UTC).date().isoformat()
    usage = {
        UsageKey(VersionName("aurora", "faq", number), today): UsageCounts(2, 1, 0, 1, num_prompt_tokens, 5)
        for number, num_prompt_tokens in ((0, 10), (1, 20))
    }
    answers = [await client.report_usage(UsageReport("server", 1, usage)) for _ in range(2)]
    with pytest.raises(AlreadyExists):
        await client.report_usage(UsageReport("server", 1, {key: UsageCounts(1) for key in usage}))
    request = usage_service_pb2.ListUsageRequest(parent="tenants/-")
    stub = usage_service_pb2_grpc.UsageServiceStub(trainer.channel)
    listed = (await stub.ListUsage(request, metadata=trainer.admin)).usage

    assert answers == [DayTotals(today, {"aurora": 40})] * 2
    assert await client.report_usage(None) == answers[0]
    assert dict(parse_usage(record, field="usage") for record in listed) == usage


async def test_a_server_hears_of_limits(trainer: Trainer, client: RegistryClient) -> None:
    """A snapshot has them, and a change of one is a delta with all of them."""
    updates = client.watch()
    table = await anext(updates)
    await limit(trainer, requests_per_minute=60, max_prompt_tokens=100)
    delta = await anext(updates)
    await updates.aclose()

    assert isinstance(table, RoutingTable)
    assert isinstance(delta, Delta)
    assert table.tenants["tenants/aurora"].quota == Quota(tokens_per_day=1_000)
    after = table.apply(delta).tenants["tenants/aurora"].quota
    assert after == Quota(requests_per_minute=60, tokens_per_day=1_000, max_prompt_tokens=100)
