"""The UsageService of the contract: servers append to the ledger, tenants and operators read it."""

from typing import Any

import grpc

from adaptory.core.usage import dump_usage
from adaptory.registry.v1 import usage_service_pb2, usage_service_pb2_grpc
from trainer_svc.registry.pages import PageRequest
from trainer_svc.registry.usage import UsageLedger
from trainer_svc.usage_requests import read_filter, read_report

Context = grpc.aio.ServicerContext[Any, Any]


class UsageServicer(usage_service_pb2_grpc.UsageServiceServicer):
    """Answers the ledger's calls."""

    def __init__(self, ledger: UsageLedger) -> None:
        """Take the ledger."""
        self._ledger = ledger

    async def ReportUsage(
        self, request: usage_service_pb2.ReportUsageRequest, _context: Context
    ) -> usage_service_pb2.ReportUsageResponse:
        """Append a report, and return what tenants with a budget used today."""
        report = read_report(request)
        if report.usage:
            await self._ledger.append(report)
        totals = await self._ledger.read_day_totals()
        return usage_service_pb2.ReportUsageResponse(
            day=totals.day,
            totals=[
                usage_service_pb2.TenantTokens(tenant=f"tenants/{tenant}", num_tokens=num_tokens)
                for tenant, num_tokens in totals.num_tokens.items()
            ],
        )

    async def ListUsage(
        self, request: usage_service_pb2.ListUsageRequest, _context: Context
    ) -> usage_service_pb2.ListUsageResponse:
        """List what was used."""
        wanted = read_filter(request)
        scope = f"{request.parent}/usage?{request.bot}&{request.first_day}&{request.last_day}"
        page = await self._ledger.list(wanted, PageRequest.parse(request.page_size, request.page_token, scope=scope))
        return usage_service_pb2.ListUsageResponse(
            usage=[dump_usage(usage.key, usage.counts) for usage in page.items], next_page_token=page.next_token
        )
