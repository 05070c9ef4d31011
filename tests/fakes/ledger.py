"""A ledger for servers to report to: counts a report once, and may lose its answers."""

import asyncio
from typing import Any

import grpc

from adaptory.core.usage import UsageCounts, UsageKey, add_usage, parse_usage
from adaptory.registry.v1 import usage_service_pb2, usage_service_pb2_grpc


class FakeLedger(usage_service_pb2_grpc.UsageServiceServicer):
    """Keeps reports; `totals` are what it answers for the day `day`, by tenant."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        self.reports: dict[tuple[str, int], dict[UsageKey, UsageCounts]] = {}
        self.day = "2026-01-31"
        self.totals: dict[str, int] = {}
        self.is_away = False
        self.num_reports_to_refuse = 0
        self.num_answers_to_lose = 0
        self.num_asked = 0
        self._has_changed = asyncio.Event()

    @property
    def usage(self) -> dict[UsageKey, UsageCounts]:
        """All that was reported."""
        total: dict[UsageKey, UsageCounts] = {}
        for usage in self.reports.values():
            add_usage(total, usage)
        return total

    async def asked(self, num_asked: int = 1) -> None:
        """Return when servers have asked so often, however they were answered."""
        async with asyncio.timeout(10):
            while self.num_asked < num_asked:
                self._has_changed.clear()
                await self._has_changed.wait()

    async def counted(self, num_requests: int) -> dict[UsageKey, UsageCounts]:
        """Return what was used, once so many requests were reported."""
        async with asyncio.timeout(10):
            while sum(counts.num_requests for counts in self.usage.values()) < num_requests:
                self._has_changed.clear()
                await self._has_changed.wait()
        return self.usage

    async def ReportUsage(
        self, request: usage_service_pb2.ReportUsageRequest, context: Any
    ) -> usage_service_pb2.ReportUsageResponse:
        """Take a report, and answer with the totals, unless told otherwise."""
        self.num_asked += 1
        self._has_changed.set()
        if self.is_away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if request.usage and self.num_reports_to_refuse:
            self.num_reports_to_refuse -= 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "never")
        if request.usage:
            usage = dict(parse_usage(record, field="usage") for record in request.usage)
            if self.reports.setdefault((request.server, request.sequence), usage) != usage:
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, "other records")
        if self.num_answers_to_lose:
            self.num_answers_to_lose -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        totals = [
            usage_service_pb2.TenantTokens(tenant=f"tenants/{tenant}", num_tokens=num_tokens)
            for tenant, num_tokens in self.totals.items()
        ]
        return usage_service_pb2.ReportUsageResponse(day=self.day, totals=totals)
