"""What servers report and who reads it, through the door of the ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from adaptory.registry.v1 import registry_service_pb2, tenant_pb2, usage_service_pb2, usage_service_pb2_grpc
from tests.fakes.trainer import Metadata, Trainer, fields_of, reason_of

FAQ, DESK, FOREIGN = (
    f"tenants/{name}/versions/1" for name in ("aurora/bots/faq", "aurora/bots/desk", "borealis/bots/faq")
)
DAY = "2026-01-31"


class Books:
    """A trainer with two tenants, and callers of its ledger."""

    def __init__(self, trainer: Trainer, aurora: Metadata) -> None:
        self.trainer = trainer
        self.aurora = aurora
        self.usage = usage_service_pb2_grpc.UsageServiceStub(trainer.channel)

    async def report(
        self, sequence: int, *usage: usage_service_pb2.Usage, server: str = "server-1"
    ) -> usage_service_pb2.ReportUsageResponse:
        """Report as a server does."""
        request = usage_service_pb2.ReportUsageRequest(server=server, sequence=sequence, usage=usage)
        return await self.usage.ReportUsage(request, metadata=self.trainer.server)

    async def list(
        self, parent: str = "tenants/aurora", *, key: Metadata | None = None, **fields: Any
    ) -> list[usage_service_pb2.Usage]:
        """Return all pages, as the operator sees them unless told otherwise."""
        request = usage_service_pb2.ListUsageRequest(parent=parent, **fields)
        found = []
        while True:
            page = await self.usage.ListUsage(request, metadata=key or self.trainer.admin)
            found += page.usage
            if not (token := page.next_page_token):
                return found
            request.page_token = token


@pytest.fixture
async def books(trainer: Trainer) -> Books:
    """The tenants aurora, with two bots, and borealis."""
    aurora = await trainer.add_tenant("aurora")
    await trainer.add_tenant("borealis")
    for bot in ("faq", "desk"):
        await trainer.add_bot("aurora", bot)
    return Books(trainer, aurora)


def used(version: str = FAQ, day: str = DAY, **counts: int) -> usage_service_pb2.Usage:
    """Return one record."""
    return usage_service_pb2.Usage(version=version, day=day, **{"num_requests": 1, **counts})


async def test_a_tenant_reads_what_its_versions_used(books: Books) -> None:
    """By day, bot and version, summed over the reports of all servers; the tenant's own key is enough."""
    await books.report(1, used(num_prompt_tokens=10, num_output_tokens=5), used(DESK, "2026-02-01"))
    await books.report(2, used(num_requests=3, num_cancelled=1, num_failed=1, num_refused=1, num_prompt_tokens=20))
    await books.report(1, used(num_output_tokens=7), used(FOREIGN), server="server-2")

    assert await books.list(key=books.aurora) == [
        used(
            num_requests=5,
            num_cancelled=1,
            num_failed=1,
            num_refused=1,
            num_prompt_tokens=30,
            num_output_tokens=12,
        ),
        used(DESK, "2026-02-01"),
    ]


async def test_a_report_counts_once(books: Books) -> None:
    """Whatever comes between, and in whatever order."""
    for sequence in (2, 1, 2, 3, 1, 3):
        await books.report(sequence, used(num_prompt_tokens=sequence))

    assert await books.list() == [used(num_requests=3, num_prompt_tokens=6)]


async def test_a_number_that_comes_with_other_records_is_refused(books: Books) -> None:
    """As from a server whose disk was copied: nothing of it is counted, and under another id it is."""
    await books.report(1, used())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.report(1, used(num_failed=1))
    await books.report(1, used(num_failed=1), server="another")

    assert reason_of(refused.value) == "REPORT_REUSED"
    assert await books.list() == [used(num_requests=2, num_failed=1)]


async def test_usage_is_listed_by_bot_and_day(books: Books) -> None:
    """Both ends of a range belong to it."""
    days = ("2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02")
    await books.report(1, *(used(version, day) for version in (FAQ, DESK) for day in days))
    fields = {"bot": "tenants/aurora/bots/faq", "first_day": days[1], "last_day": days[2]}

    assert await books.list(**fields) == [used(FAQ, days[1]), used(FAQ, days[2])]


async def test_pages_together_are_the_list(books: Books) -> None:
    """The order of the pages is that of the whole, over all tenants too."""
    await books.report(1, *(used(version, f"2026-01-{day}") for version in (FAQ, DESK, FOREIGN) for day in (10, 11)))
    whole = await books.list("tenants/-")

    assert [(usage.day, usage.version) for usage in whole] == [
        (f"2026-01-{day}", version) for day in (10, 11) for version in (DESK, FAQ, FOREIGN)
    ]
    assert await books.list("tenants/-", page_size=1) == await books.list("tenants/-", page_size=4) == whole


async def test_only_the_operator_sees_all_tenants(books: Books) -> None:
    """To a tenant there are no others."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.list("tenants/-", key=books.aurora)

    assert fields_of(refused.value) == ["parent"]


async def test_a_list_that_cannot_be_is_refused(books: Books) -> None:
    """The bad field is named."""
    bad = {
        "bot": "tenants/borealis/bots/faq",
        "first_day": "31.1.2026",
        "last_day": "2026-02-30",
        "page_token": "made up",
    }
    for field, value in bad.items():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await books.list(**{field: value})
        assert fields_of(refused.value) == [field]


async def test_a_report_that_cannot_be_is_refused(books: Books) -> None:
    """The bad field is named, and nothing is counted."""
    bad = {
        "sequence": (0, "server-1", used()),
        "server": (1, "no server!", used()),
        "usage[0].version": (1, "server-1", used("tenants/aurora")),
        "usage[0].day": (1, "server-1", used(day="today")),
        "usage[0].num_output_tokens": (1, "server-1", used(num_output_tokens=-1)),
    }
    for field, (sequence, server, usage) in bad.items():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await books.report(sequence, usage, server=server)
        assert fields_of(refused.value) == [field]

    assert await books.list() == []


async def test_a_report_is_answered_with_what_budgets_have_spent(books: Books) -> None:
    """Tokens of today, of all servers, and only of tenants that have a budget; nothing to report is a question, too."""
    await books.trainer.registry.CreateTenant(
        registry_service_pb2.CreateTenantRequest(
            tenant_id="cirrus", tenant=tenant_pb2.Tenant(limits=tenant_pb2.TenantLimits(tokens_per_day=1000))
        ),
        metadata=books.trainer.admin,
    )
    cirrus, now = "tenants/cirrus/bots/faq/versions/1", datetime.now(UTC)
    today, yesterday = (moment.date().isoformat() for moment in (now, now - timedelta(days=1)))
    tokens = {"num_prompt_tokens": 30, "num_output_tokens": 12}
    for server in ("server-1", "server-2"):
        await books.report(1, used(cirrus, today, **tokens), used(FAQ, today, **tokens), server=server)
    await books.report(2, used(cirrus, yesterday, **tokens))
    answer = await books.report(0)

    total = usage_service_pb2.TenantTokens(tenant="tenants/cirrus", num_tokens=84)
    assert answer == usage_service_pb2.ReportUsageResponse(day=today, totals=[total])
