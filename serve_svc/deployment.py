"""Makes the engine follow the routing table: loads what was promoted before a request asks for it, takes down what is gone.

Decides when; how an adapter is loaded or taken down safely is `adapters.py`.
"""

import asyncio
import time
from collections.abc import Iterable

import structlog

from adaptory.core.errors import ServiceError
from serve_svc.adapters import AdapterCache
from serve_svc.routing import NOTHING_KNOWN, Router, RoutingTable
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
        self._is_engine_new = asyncio.Event()

    def follow(self, before: RoutingTable, after: RoutingTable) -> None:
        """Have the engine follow the change from one table to the next, soon."""
        for name in before.versions.keys() - after.versions.keys():
            self._gone.put_nowait(before.versions[name].adapter)
        promoted = _answering(after, self._router) - _answering(before, self._router)
        self._load_soon(sorted(promoted, key=lambda version: version.name))

    def refill(self) -> None:
        """Have an engine that was just built get the adapters that answer, soon: it holds none."""
        self._is_engine_new.set()

    async def run(self) -> None:
        """Load and take down until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._load_promoted())
            tasks.create_task(self._refill_new_engines())
            while True:
                # Each waits for the streams of its version, so none may wait for another's.
                tasks.create_task(self._take_down(await self._gone.get()))

    async def warm(self, version: AdapterVersion) -> float:
        """Load the version and return the seconds it took; 0 when it was there. Raises what AdapterCache.lease raises."""
        if version in await self._cache.resident_versions():
            return 0.0
        began_s = time.monotonic()
        async with self._cache.lease(version):
            return time.monotonic() - began_s

    def _load_soon(self, versions: Iterable[AdapterVersion]) -> None:
        for _, version in zip(range(self._max_resident), versions, strict=False):
            self._promoted.put_nowait(version)

    async def _load_promoted(self) -> None:
        while True:
            version = await self._promoted.get()
            try:
                seconds = await self.warm(version)
            except (ServiceError, OSError) as error:
                # The cache has counted it; requests fall back to the former version, or try the load again.
                log.warning("promoted_version_not_loaded", version=version.name, why=str(error))
            else:
                log.info("promoted_version_loaded", version=version.name, seconds=round(seconds, 3))

    async def _refill_new_engines(self) -> None:
        while True:
            await self._is_engine_new.wait()
            self._is_engine_new.clear()
            try:
                await self._cache.restore()
            except OSError as error:
                log.error("adapters_not_restored", why=str(error))  # noqa: TRY400 - a full disk needs no traceback
            self.follow(NOTHING_KNOWN, self._router.table)

    async def _take_down(self, version: AdapterVersion) -> None:
        await self._cache.undeploy(version)
        log.info("version_taken_down", version=version.name)


def _answering(table: RoutingTable, router: Router) -> set[AdapterVersion]:
    """Return the adapters that are asked for bots in this table, canaries and shadows too, as far as this base may serve them."""
    routed = (
        (bot.kind, table.versions.get(str(name)))
        for bot in table.bots.values()
        for name in (bot.production, bot.canary, bot.shadow)
        if name
    )
    return {version.adapter for kind, version in routed if version and router.is_servable(version, kind)}
