"""Compares a canary's requests with production's, and ends one that is worse: here at once, then in the registry for all servers.

Each server judges by its own requests. What it counts is in memory, and begins anew with another canary or another process.
"""

import asyncio
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from adaptory.core.errors import Busy, InvalidRequest, ServiceError, TooLarge, Unavailable
from adaptory.core.names import VersionName
from serve_svc.deadline import ShutDown
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import EngineDead, SchemaImpossible
from serve_svc.metrics import RequestRecord
from serve_svc.routing import Lane, Route, RoutingTable

log = structlog.get_logger()

# The caller's doing, the server's, the bot's, or of an engine that dies for all: nothing that tells two versions apart, as a deadline
# that passes does.
_NOT_THE_VERSIONS = (InvalidRequest, Busy, TooLarge, ShutDown, EngineDead, SchemaImpossible)
# Of each lane the last requests count: a canary may turn bad after many good answers.
_NUM_LAST = 200
_FIRST_TOKEN_SLACK_S = 0.05
_MAX_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class CanaryLimits:
    """How much worse than production a canary may be, once it has had `min_requests`.

    `max_more_failures` is a difference of shares, and `max_first_token_ratio` one of medians, for which both must have had as many.
    """

    min_requests: int
    max_more_failures: float
    max_first_token_ratio: float


@dataclass(frozen=True, slots=True)
class _Tally:
    """The last requests in one lane: whether each failed, and the seconds to the first token of those that had one."""

    failures: deque[bool] = field(default_factory=lambda: deque(maxlen=_NUM_LAST))
    first_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=_NUM_LAST))

    @property
    def failure_share(self) -> float:
        return sum(self.failures) / max(1, len(self.failures))

    def describe(self) -> str:
        return f"{sum(self.failures)} of {len(self.failures)}"


@dataclass(frozen=True, slots=True)
class _Trial:
    """One canary beside production."""

    canary: _Tally = field(default_factory=_Tally)
    production: _Tally = field(default_factory=_Tally)

    def tally_of(self, lane: Lane) -> _Tally:
        return self.canary if lane is Lane.CANARY else self.production


class CanaryWatch:
    """Watches all canaries of a server; `ended` names those that answer nobody any more, whatever the routes say."""

    def __init__(self, limits: CanaryLimits) -> None:
        """Begin with none watched."""
        self._limits = limits
        self._trials: dict[VersionName, _Trial] = {}
        self._endings: asyncio.Queue[tuple[VersionName, str]] = asyncio.Queue()
        self.ended: set[VersionName] = set()

    def follow(self, table: RoutingTable) -> None:
        """Try the table's canaries, and forget what is none any more: set again, it is tried anew."""
        canaries = {bot.canary for bot in table.bots.values() if bot.canary}
        self.ended.intersection_update(canaries)
        self._trials = {canary: self._trials.get(canary) or _Trial() for canary in canaries}

    @contextmanager
    def observe(self, route: Route, record: RequestRecord) -> Iterator[None]:
        """Count one request of a bot with a canary when the block ends, by how it ends."""
        try:
            yield
        except OutputCorrupted as error:
            if error.adapter and route.adapter and error.adapter.engine_id == route.adapter.engine_id:
                self._end(route, "Its output was corrupted: the engine computed NaN and had to restart.")
            raise
        except _NOT_THE_VERSIONS:
            raise
        except GeneratorExit:
            if record.has_ended:  # its asker had enough, as for a line of code
                self._count(route, record, has_failed=False)
            raise
        except Exception:
            self._count(route, record, has_failed=True)
            raise
        else:
            # Answered it was, but a canary that could not be loaded has failed.
            self._count(route, record, has_failed=record.former_answers)

    async def run(self, end: Callable[[VersionName, str], Awaitable[None]]) -> None:
        """Have every canary that was ended here be ended for all, until cancelled."""
        while True:
            version, reason = await self._endings.get()
            try:
                await _insist(end, version, reason)
            except ServiceError as error:
                log.error("canary_not_ended", version=str(version), why=error.message)  # noqa: TRY400 - expected

    def _count(self, route: Route, record: RequestRecord, *, has_failed: bool) -> None:
        trial = self._trials.get(route.bot.canary) if route.bot.canary else None
        if trial is None or route.lane not in (Lane.PRODUCTION, Lane.CANARY):
            return
        tally = trial.tally_of(route.lane)
        tally.failures.append(has_failed)
        if record.time_to_first_token_s and not record.former_answers:
            tally.first_token_s.append(record.time_to_first_token_s)
        if route.lane is Lane.CANARY and (fault := self._find_fault(trial.canary, trial.production)):
            self._end(route, fault)

    def _find_fault(self, canary: _Tally, production: _Tally) -> str:
        """Return a sentence with the numbers for what is worse than it may be; empty where nothing is, or too little was seen."""
        limits = self._limits
        if len(canary.failures) < limits.min_requests:
            return ""
        if canary.failure_share > production.failure_share + limits.max_more_failures:
            return (
                f"Of its last requests {canary.describe()} failed, of production's {production.describe()}; "
                f"{limits.max_more_failures:.0%} more are allowed."
            )
        return self._find_slowness(canary.first_token_s, production.first_token_s)

    def _find_slowness(self, canary_s: Iterable[float], production_s: Iterable[float]) -> str:
        times = [sorted(canary_s), sorted(production_s)]
        if min(map(len, times)) < self._limits.min_requests:
            return ""
        canary, production = map(statistics.median, times)
        if canary <= production * self._limits.max_first_token_ratio + _FIRST_TOKEN_SLACK_S:
            return ""
        return (
            f"Its median time to the first token is {canary * 1000:,.0f} ms, production's {production * 1000:,.0f} ms; "
            f"{self._limits.max_first_token_ratio:g} times that and {_FIRST_TOKEN_SLACK_S * 1000:.0f} ms are allowed."
        )

    def _end(self, route: Route, reason: str) -> None:
        """End the canary of a request, unless it was production's own, or of a canary that is none any more."""
        if route.lane is not Lane.CANARY or route.name not in self._trials or route.name in self.ended:
            return
        self.ended.add(route.name)
        self._endings.put_nowait((route.name, reason))
        log.warning("canary_ended", version=str(route.name), reason=reason)


async def _insist(end: Callable[[VersionName, str], Awaitable[None]], version: VersionName, reason: str) -> None:
    """End the canary in the registry, however long that cannot be reached. Raises any other ServiceError."""
    nap_s = 1.0
    while True:
        try:
            await end(version, reason)
        except Unavailable as error:
            log.warning("canary_end_delayed", version=str(version), why=error.message)
        else:
            return
        await asyncio.sleep(nap_s)
        nap_s = min(2 * nap_s, _MAX_RETRY_S)
