"""The ledger of what tenants used: appended by servers, a report once however often it comes, and never changed."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, tuple_, update

from adaptory.core.errors import AlreadyExists
from adaptory.core.names import BotName, TenantName, VersionName
from adaptory.core.usage import COUNTS, UsageCounts, UsageKey
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.bots import read_bot
from trainer_svc.registry.database import Database
from trainer_svc.registry.pages import Page, PageRequest
from trainer_svc.registry.tenants import read_tenant


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What one server counted since its report before; `sequence` numbers its reports."""

    server: str
    sequence: int
    usage: Mapping[UsageKey, UsageCounts]

    @property
    def digest(self) -> str:
        """What tells a report that comes again from another of the same number."""
        lines = sorted(f"{key.version} {key.day} {asdict(counts)}" for key, counts in self.usage.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Whose usage is wanted: of a tenant, or all where it is None; of a bot; from one day to another, both included, as text."""

    tenant: TenantName | None
    bot: BotName | None
    first_day: str
    last_day: str


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What one version used on one day."""

    key: UsageKey
    counts: UsageCounts


@dataclass(frozen=True, slots=True)
class DayTotals:
    """Tokens of one UTC day, of each tenant with a budget that used any."""

    day: str
    num_tokens: Mapping[str, int]


class UsageLedger:
    """Keeps reports, and the sums of them for each version and day."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def append(self, report: UsageReport) -> None:
        """Keep a report; one that was taken before changes nothing. Raises AlreadyExists (REPORT_REUSED) where it differed."""
        now = self._clock()

        def append_report(transaction: Connection) -> None:
            if _is_taken(transaction, report):
                return
            named = {"server": report.server, "sequence": report.sequence}
            transaction.execute(insert(tables.usage_reports).values(**named, digest=report.digest, create_time=now))
            rows = [{**_to_columns(key), **asdict(counts)} for key, counts in report.usage.items()]
            transaction.execute(insert(tables.usage_entries), [{**named, **row} for row in rows])
            for row in rows:
                _add_to_day(transaction, row)

        await self._database.write(append_report)

    async def read_day_totals(self) -> DayTotals:
        """Return what tenants with a budget used today."""
        day, days, tenants = self._clock().date().isoformat(), tables.usage_days, tables.tenants
        query = (
            select(days.c.tenant, func.sum(days.c.num_prompt_tokens + days.c.num_output_tokens).label("num_tokens"))
            .join(tenants, and_(tenants.c.tenant == days.c.tenant, tenants.c.tokens_per_day > 0))
            .where(days.c.day == day)
            .group_by(days.c.tenant)
        )
        rows = await self._database.read(lambda transaction: transaction.execute(query).all())
        return DayTotals(day, {row.tenant: int(row.num_tokens) for row in rows if row.num_tokens})

    async def list(self, wanted: UsageFilter, page: PageRequest) -> Page[DayUsage]:
        """Return a page of usage by day, tenant, bot and version. Raises NotFound where tenant or bot does not exist."""
        table = tables.usage_days
        order = (table.c.day, table.c.tenant, table.c.bot, table.c.version)
        query = select(table).where(*_conditions_of(wanted)).order_by(*order).limit(page.size + 1)
        if page.after:
            query = query.where(tuple_(*order) > tuple_(*_parse_place(page)))

        def read_usage(transaction: Connection) -> list[DayUsage]:
            if wanted.tenant is not None:
                read_tenant(transaction, wanted.tenant)
            if wanted.bot is not None:
                read_bot(transaction, wanted.bot)
            return [_to_usage(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_usage), key=lambda usage: _name_place(usage.key))


def _is_taken(transaction: Connection, report: UsageReport) -> bool:
    table = tables.usage_reports
    query = select(table.c.digest).where(table.c.server == report.server, table.c.sequence == report.sequence)
    digest = transaction.execute(query).scalar_one_or_none()
    if digest not in (None, report.digest):
        raise AlreadyExists(
            f"Report {report.sequence} of server {report.server} came before with other records: the state of that server was copied"
            " or put back. Report under another id.",
            reason="REPORT_REUSED",
            metadata={"server": report.server, "sequence": report.sequence},
        )
    return digest is not None


def _add_to_day(transaction: Connection, row: Mapping[str, object]) -> None:
    table = tables.usage_days
    same = [table.c[name] == row[name] for name in ("tenant", "day", "bot", "version")]
    sums = {name: table.c[name] + row[name] for name in COUNTS}
    if not transaction.execute(update(table).where(*same).values(sums)).rowcount:
        transaction.execute(insert(table).values(row))


def _conditions_of(wanted: UsageFilter) -> list[ColumnElement[bool]]:
    table = tables.usage_days
    conditions: list[ColumnElement[bool]] = []
    if wanted.tenant is not None:
        conditions.append(table.c.tenant == wanted.tenant.tenant)
    if wanted.bot is not None:
        conditions += [table.c.tenant == wanted.bot.tenant, table.c.bot == wanted.bot.bot]
    if wanted.first_day:
        conditions.append(table.c.day >= wanted.first_day)
    if wanted.last_day:
        conditions.append(table.c.day <= wanted.last_day)
    return conditions


def _name_place(key: UsageKey) -> str:
    return f"{key.day} {key.version}"


def _parse_place(page: PageRequest) -> tuple[str, str, str, int]:
    day, _, name = page.after.partition(" ")
    version = VersionName.parse(name, field="page_token")
    return day, version.tenant, version.bot, version.number


def _to_columns(key: UsageKey) -> dict[str, object]:
    version = key.version
    return {"tenant": version.tenant, "bot": version.bot, "version": version.number, "day": key.day}


def _to_usage(row: Row[Any]) -> DayUsage:
    key = UsageKey(VersionName(row.tenant, row.bot, row.version), row.day)
    return DayUsage(key, UsageCounts(*(getattr(row, name) for name in COUNTS)))
