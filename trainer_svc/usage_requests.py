"""Reads what the ledger's requests bring in: a server's report, and whose usage is wanted."""

import re

from adaptory.core.auth import Role, current_caller
from adaptory.core.names import BotName, TenantName
from adaptory.core.usage import UsageCounts, UsageKey, add_usage, check_day, parse_usage
from adaptory.core.violations import Violations
from adaptory.registry.v1 import usage_service_pb2
from trainer_svc.edge import read_name
from trainer_svc.registry.usage import UsageFilter, UsageReport

_SERVER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_RECORDS = 2_000
_ALL_TENANTS = "tenants/-"


def read_report(request: usage_service_pb2.ReportUsageRequest) -> UsageReport:
    """Check a server's report. Raises InvalidRequest."""
    num_records, violations = len(request.usage), Violations()
    violations.check(
        field="server",
        is_good=bool(_SERVER_ID.fullmatch(request.server)) or not num_records,
        sentence=f"has {len(request.server)} characters; 1 to 64 of A-Z, a-z, 0-9, dots, underscores and hyphens are taken",
    )
    violations.check(
        field="usage",
        is_good=num_records <= _MAX_RECORDS,
        sentence=f"has {num_records} records; at most {_MAX_RECORDS} are taken: report the others afterwards",
    )
    violations.check(
        field="sequence",
        is_good=request.sequence >= 1 or not num_records,
        sentence=f"is {request.sequence}; it must be 1 or more",
    )
    violations.raise_if_any()
    usage: dict[UsageKey, UsageCounts] = {}
    for place, record in enumerate(request.usage):
        key, counts = parse_usage(record, field=f"usage[{place}]")
        add_usage(usage, {key: counts})
    return UsageReport(request.server, request.sequence, usage)


def read_filter(request: usage_service_pb2.ListUsageRequest) -> UsageFilter:
    """Return whose usage is wanted. Raises InvalidRequest, and NotFound for what is not the caller's."""
    sees_all = request.parent == _ALL_TENANTS and current_caller.get().role is Role.ADMIN
    tenant = None if sees_all else read_name(TenantName, request.parent, field="parent")
    bot = read_name(BotName, request.bot, field="bot") if request.bot else None
    violations = Violations()
    violations.check(
        field="bot",
        is_good=bot is None or tenant is None or bot.tenant == tenant.tenant,
        sentence="is not below parent; name a bot of that tenant",
    )
    violations.raise_if_any()
    days = (request.first_day, request.last_day)
    for field, day in zip(("first_day", "last_day"), days, strict=True):
        if day:
            check_day(day, field=field)
    return UsageFilter(tenant, bot, *days)
