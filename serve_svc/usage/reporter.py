"""Brings what was counted to disk, and from there to the registry, beside the requests and never in their way."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import structlog

from adaptory.core.errors import AlreadyExists, InvalidRequest, ServiceError
from serve_svc.usage.day_tokens import DayTokens, DayTotals
from serve_svc.usage.meter import UsageMeter
from serve_svc.usage.spool import UsageReport, UsageSpool

log = structlog.get_logger()

# How long a server that stops waits for the registry to take its last report; the next start sends what it did not take.
_LAST_REPORT_S = 3.0

_Result = TypeVar("_Result")


class ReportRefused(InvalidRequest):
    """The registry will never take a report."""

    default_reason = "REPORT_INVALID"


class UsageRegistry(Protocol):
    """Who takes reports; `RegistryClient` is the real one."""

    async def report_usage(self, report: UsageReport | None) -> DayTotals:
        """Have a report be counted once, or none where only the totals of the day are wanted, and return those.

        Raises AlreadyExists when its number came with other records, ReportRefused when the registry will never take it, and
        Unavailable when it did not take it now.
        """


@dataclass(frozen=True, slots=True)
class UsagePace:
    """How often what was counted is written to disk, and how often it is reported."""

    keep_s: float
    report_s: float


class UsageReporter:
    """Writes and reports in turn, until cancelled. A registry or a disk that is away only delays it."""

    def __init__(
        self,
        meter: UsageMeter,
        spool: UsageSpool,
        day_tokens: DayTokens,
        pace: UsagePace,
        has_budgets: Callable[[], bool],
    ) -> None:
        """`has_budgets` tells whether any tenant has one, so that the totals of the day are wanted."""
        self._meter = meter
        self._spool = spool
        self._day_tokens = day_tokens
        self._pace = pace
        self._has_budgets = has_budgets
        # One thread, so that what the disk is asked for comes in order, and goes on when whoever asked is cancelled.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage-spool")
        self.num_unreported = 0

    async def start(self) -> None:
        """Take up what an earlier run left. Raises InvalidRequest when its file cannot be read."""
        await self._in_thread(self._spool.load)
        unreported = self._spool.unreported
        self._day_tokens.add_all(unreported)
        self.num_unreported = sum(counts.num_requests for counts in unreported.values())

    async def run(self, registry: UsageRegistry) -> None:
        """Write and report until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(self.keep, self._pace.keep_s))
            tasks.create_task(_repeat(partial(self.report, registry), self._pace.report_s))

    async def close(self, registry: UsageRegistry) -> None:
        """Write what was counted last, and report it if that is quickly done. Called once, when no request runs any more."""
        await self.keep()
        try:
            async with asyncio.timeout(_LAST_REPORT_S):
                await self.report(registry)
        except TimeoutError:
            log.warning("usage_left_unreported", num_requests=self.num_unreported)
        await asyncio.to_thread(self._thread.shutdown)

    async def keep(self) -> None:
        """Write what was counted since the last time."""
        usage = self._meter.take()
        if not usage:
            return
        self.num_unreported += sum(counts.num_requests for counts in usage.values())
        try:
            await self._in_thread(partial(self._spool.keep, usage))
        except OSError as error:
            log.error("usage_not_written", why=str(error))  # noqa: TRY400 - expected, no traceback

    async def report(self, registry: UsageRegistry) -> None:
        """Report all that is on disk."""
        try:
            if not await self._report_kept(registry) and self._has_budgets():
                self._day_tokens.reported({}, await registry.report_usage(None))
        except AlreadyExists as error:
            log.error("usage_server_renamed", why=error.message)  # noqa: TRY400 - expected, no traceback
            await self._rename_server()
        except ServiceError as error:
            log.warning("usage_not_reported", why=error.message, num_requests=self.num_unreported)
        except OSError as error:
            log.error("usage_not_written", why=str(error))  # noqa: TRY400 - expected, no traceback

    async def _report_kept(self, registry: UsageRegistry) -> bool:
        """Send one report after the other; tell whether there was any."""
        has_reported = False
        while report := await self._in_thread(self._spool.seal):
            try:
                self._day_tokens.reported(report.usage, await registry.report_usage(report))
            except ReportRefused as error:
                # What follows it must not wait for ever. The day's limits go on counting it: it was used here.
                file = await self._in_thread(partial(self._spool.set_aside, report))
                log.error("usage_refused", why=error.message, file=str(file))  # noqa: TRY400 - expected, no traceback
            self.num_unreported -= sum(counts.num_requests for counts in report.usage.values())
            has_reported = True
            await self._in_thread(partial(self._spool.settle, report))
        return has_reported

    async def _rename_server(self) -> None:
        try:
            await self._in_thread(self._spool.rename_server)
        except OSError as error:
            log.error("usage_not_written", why=str(error))  # noqa: TRY400 - expected, no traceback

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        # Shielded: work that waits for the thread must not be dropped with its caller, it may hold the only records.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))


async def _repeat(work: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        await work()
        await asyncio.sleep(pause_s)
