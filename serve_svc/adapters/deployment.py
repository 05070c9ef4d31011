"""Makes the engine follow the routing table: loads what was promoted before a request asks for it, takes down what is gone.

A new engine, or a server that was started again, gets what was used last first. Decides when; how an adapter is loaded or taken down
safely is `cache.py`.
"""

import asyncio
import time
from collections.abc import Iterable

import structlog

from adaptory.core.errors import ServiceError
from serve_svc.adapters.cache import AdapterCache
from serve_svc.adapters.life import AdapterState
from serve_svc.engine.engine import EngineDead
from serve_svc.routing import Router, RoutingTable
from serve_svc.version import AdapterVersion

log = structlog.get_logger()


class Deployment:
    """Follows tables and engines. Loads go one after another, so that running streams pause for one load at a time."""

    def __init__(self, cache: AdapterCache, router: Router, max_resident: int) -> None:
        """Load at most `max_resident` adapters unasked; the others wait for their first request."""
        self._cache = cache
        self._router = router
        self._max_resident = max_resident
        self._promoted: asyncio.Queue[AdapterVersion] = asyncio.Queue()
        self._gone: asyncio.Queue[AdapterVersion] = asyncio.Queue()
        self._needs_refill = asyncio.Event()

    def follow(self, before: RoutingTable, after: RoutingTable) -> None:
        """Have the engine follow the change from one table to the next, soon."""
        if not before.is_known:
            self.refill()
            return
        for version in self._find_gone(before, after):
            self._gone.put_nowait(version)
        promoted = _answering(after, self._router) - _answering(before, self._router)
        for _, version in zip(range(self._max_resident), sorted(promoted, key=_name), strict=False):
            self._promoted.put_nowait(version)

    def refill(self) -> None:
        """Have an engine that was just built get adapters, soon, the last used first: it holds none."""
        self._needs_refill.set()

    async def run(self) -> None:
        """Load and take down until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._load_promoted())
            tasks.create_task(self._refill_engines())
            while True:
                # Each waits for the streams of its version, so none may wait for another's.
                tasks.create_task(self._take_down(await self._gone.get()))

    async def warm(self, version: AdapterVersion) -> float:
        """Load the version and return the seconds it took; 0 when it was there. Raises what AdapterCache.lease raises."""
        if version in {adapter.version for adapter in await self._cache.residents()}:
            return 0.0
        began_s = time.monotonic()
        async with self._cache.lease(version):
            return time.monotonic() - began_s

    async def _load_promoted(self) -> None:
        while True:
            version = await self._promoted.get()
            if version.name not in self._router.table.versions:
                continue  # it was taken down while others were loaded
            try:
                seconds = await self.warm(version)
            except ServiceError as error:
                # The cache has counted it; requests fall back to the former version, or try the load again.
                log.warning("promoted_version_not_loaded", version=version.name, why=error.message)
            else:
                log.info("promoted_version_loaded", version=version.name, seconds=round(seconds, 3))

    async def _refill_engines(self) -> None:
        while True:
            await self._needs_refill.wait()
            self._needs_refill.clear()
            table = self._router.table
            if table.is_known:
                num_swept = await self._cache.sweep({version.adapter.digest for version in table.versions.values()})
                if num_swept:
                    log.info("adapter_store_swept", num_removed=num_swept)
                await self._refill(self._choose(table))

    async def _refill(self, versions: Iterable[AdapterVersion]) -> None:
        """Load until the engine is full, with these or with what requests have asked for meanwhile."""
        for version in versions:
            try:
                if await self._cache.is_full():
                    return
                await self._cache.prefetch(version)
            except EngineDead:
                return  # the next one is refilled from the start
            except ServiceError as error:
                log.warning("version_not_prefetched", version=version.name, why=error.message)

    def _find_gone(self, before: RoutingTable, after: RoutingTable) -> set[AdapterVersion]:
        """Return what the change removes, and what a request that was routed before an earlier one has brought back since."""
        removed = {before.versions[name].adapter for name in before.versions.keys() - after.versions.keys()}
        known = (adapter for adapter in self._cache.known() if adapter.state is not AdapterState.DRAINING)
        return removed | {adapter.version for adapter in known if adapter.version.name not in after.versions}

    def _choose(self, table: RoutingTable) -> list[AdapterVersion]:
        """Return what a new engine should hold: what answers, then what was asked for by name, each by its last use."""
        used_s = self._cache.recency()
        answering = _answering(table, self._router)
        asked = {version for version in _servable(table, self._router) if version.digest in used_s} - answering
        chosen = [*sorted(answering, key=_name), *sorted(asked, key=_name)]
        chosen.sort(key=lambda version: (version not in answering, -used_s.get(version.digest, 0.0)))
        return chosen[: self._max_resident]

    async def _take_down(self, version: AdapterVersion) -> None:
        await self._cache.undeploy(version)
        log.info("version_taken_down", version=version.name)


def _name(version: AdapterVersion) -> str:
    return version.name


def _servable(table: RoutingTable, router: Router) -> set[AdapterVersion]:
    """Return the adapters in this table that this server's base may serve."""
    owned = ((version, table.bots.get(str(version.name.bot_name))) for version in table.versions.values())
    return {version.adapter for version, bot in owned if bot and router.is_servable(version, bot.kind)}


def _answering(table: RoutingTable, router: Router) -> set[AdapterVersion]:
    """Return the adapters that are asked for bots in this table, canaries and shadows too, as far as this base may serve them."""
    routed = (
        (bot.kind, table.versions.get(str(name)))
        for bot in table.bots.values()
        for name in (bot.production, bot.canary, bot.shadow)
        if name
    )
    return {version.adapter for kind, version in routed if version and router.is_servable(version, kind)}
