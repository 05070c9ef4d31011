"""The ledger under any order of reports that servers may send, again and again."""

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from adaptory.core.names import TenantName, VersionName
from adaptory.core.usage import COUNTS, UsageCounts, UsageKey
from trainer_svc.clock import read_utc
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database
from trainer_svc.registry.pages import PageRequest
from trainer_svc.registry.tenants import TenantLimits, Tenants
from trainer_svc.registry.usage import UsageFilter, UsageLedger, UsageReport

Usage = Mapping[tuple[str, int, str], UsageCounts]
places = st.tuples(st.sampled_from(["faq", "desk"]), st.integers(0, 2), st.sampled_from(["2026-01-31", "2026-02-01"]))
counts = st.builds(UsageCounts, **{name: st.integers(0, 1_000) for name in COUNTS})
# Each server numbers its reports from 1.
histories = st.dictionaries(
    st.sampled_from(["one", "two"]),
    st.lists(st.dictionaries(places, counts, min_size=1, max_size=3), max_size=3),
    min_size=1,
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database for all examples, each of which has a tenant and servers of its own."""
    with Database(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'registry.db'}") as opened:
        yield opened


numbers = itertools.count()


@settings(max_examples=25)
@given(history=histories, seed=st.integers(0, 2**16))
def test_every_report_counts_once_however_often_and_in_whatever_order_it_comes(
    database: Database, history: Mapping[str, Sequence[Usage]], seed: int
) -> None:
    """The list is the sum of all reports, and so are the entries behind it."""
    tenant = TenantName(f"t{next(numbers)}")
    reports = [
        UsageReport(f"{server}-{tenant.tenant}", sequence, _of_tenant(tenant, usage))
        for server, reported in history.items()
        for sequence, usage in enumerate(reported, start=1)
    ]
    chance = random.Random(seed)
    sent = [*reports, *(chance.choice(reports) for _ in reports)]
    chance.shuffle(sent)
    wanted: dict[UsageKey, UsageCounts] = {}
    for report in reports:
        for key, used in report.usage.items():
            wanted[key] = wanted.get(key, UsageCounts()) + used
    found, num_in_entries = asyncio.run(_append_all(database, tenant, sent))

    assert found == wanted
    assert num_in_entries == sum(used.num_requests for used in wanted.values())


def _of_tenant(tenant: TenantName, usage: Usage) -> dict[UsageKey, UsageCounts]:
    return {UsageKey(VersionName(tenant.tenant, bot, number), day): used for (bot, number, day), used in usage.items()}


async def _append_all(
    database: Database, tenant: TenantName, reports: list[UsageReport]
) -> tuple[dict[UsageKey, UsageCounts], int]:
    await Tenants(database, read_utc).create(tenant, display_name="", limits=TenantLimits())
    ledger = UsageLedger(database, read_utc)
    for report in reports:
        await ledger.append(report)
    page = await ledger.list(UsageFilter(tenant, None, "", ""), PageRequest(1000, "", "all"))
    table = tables.usage_entries
    total = select(func.coalesce(func.sum(table.c.num_requests), 0)).where(table.c.tenant == tenant.tenant)
    num_in_entries = await database.read(lambda transaction: transaction.execute(total).scalar_one())
    return {usage.key: usage.counts for usage in page.items}, num_in_entries
