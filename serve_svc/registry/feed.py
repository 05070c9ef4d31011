"""Keeps the router's table equal to the registry's state, for as long as the registry can be heard.

While it cannot, the last table is served on. What a change means for the engine is `adapters/deployment.py`.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

import structlog

from adaptory.core.errors import FailedPrecondition, ServiceError
from serve_svc.backoff import Backoff
from serve_svc.routing import Delta, Router, RoutingTable

log = structlog.get_logger()


class RegistryWatch(Protocol):
    """Where the registry's state comes from; `RegistryClient` is the real one."""

    def watch(self) -> AsyncGenerator[RoutingTable | Delta, None]:
        """Stream a whole table, then deltas. Raises ServiceError."""


class RegistryFeed:
    """Follows the registry, and never goes back: a state that is older than the one served is refused."""

    def __init__(
        self,
        registry: RegistryWatch,
        router: Router,
        on_change: Callable[[RoutingTable, RoutingTable], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff | None = None,
    ) -> None:
        """Tell `on_change` of the old and the new table after the router has the new one."""
        self._registry = registry
        self._router = router
        self._on_change = on_change
        self._sleep = sleep
        self._backoff = backoff or Backoff()
        self._randomness = random.Random()  # noqa: S311 - spreads reconnections, guards nothing
        self.following = False

    async def run(self) -> None:
        """Follow until cancelled; reconnects whenever the stream ends."""
        num_failures = 0
        while True:
            try:
                await self._follow()
            except ServiceError as error:
                log.warning(
                    "registry_lost", reason=error.reason, why=error.message, generation=self._router.table.generation
                )
            num_failures = 1 if self.following else num_failures + 1
            self.following = False
            await self._sleep(self._backoff.delay_s(num_failures, self._randomness))

    async def _follow(self) -> None:
        async with aclosing(self._registry.watch()) as updates:
            async for update in updates:
                before = self._router.table
                self._router.table = after = _advance(before, update)
                if not self.following:
                    log.info("registry_followed", generation=after.generation)
                    self.following = True
                if after is not before:
                    self._on_change(before, after)


def _advance(table: RoutingTable, update: RoutingTable | Delta) -> RoutingTable:
    if isinstance(update, Delta):
        return table.apply(update)
    if update.generation > table.generation:
        return update
    if update == table:
        return table
    # Another registry, or one restored from a backup: its next deltas would be laid over a state they do not fit.
    raise FailedPrecondition(
        f"The registry is at generation {update.generation}, this server has served {table.generation} already. "
        "If the registry was replaced on purpose, stop the server, delete the snapshot in its state folder and start it again.",
        reason="REGISTRY_WENT_BACK",
        metadata={"registry_generation": update.generation, "served_generation": table.generation},
    )
