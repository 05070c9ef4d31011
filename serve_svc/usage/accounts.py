"""Puts together what knows how much tenants use: their quotas, the meter of requests, and the way to the ledger."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from serve_svc.routing import Router
from serve_svc.usage.day_tokens import DayTokens
from serve_svc.usage.meter import UsageMeter
from serve_svc.usage.quota import Quotas
from serve_svc.usage.reporter import UsagePace, UsageReporter
from serve_svc.usage.spool import UsageSpool


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who is asked before a request, who hears of it, and who tells the registry."""

    quotas: Quotas
    meter: UsageMeter
    reporter: UsageReporter


def open_accounts(file: Path, pace: UsagePace, router: Router) -> Accounts:
    """Return the accounts of a server that keeps what it counted in `file`, for the tenants of `router`."""

    def has_budgets() -> bool:
        return any(tenant.quota.tokens_per_day for tenant in router.table.tenants.values())

    day_tokens = DayTokens()
    quotas = Quotas(day_tokens, monotonic, _read_utc)
    meter = UsageMeter(quotas, _read_utc)
    return Accounts(quotas, meter, UsageReporter(meter, UsageSpool(file), day_tokens, pace, has_budgets))


def _read_utc() -> datetime:
    return datetime.now(UTC)
