"""The feed by itself, over a registry that says what a script says."""

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest

from adaptory.core.errors import Unavailable
from serve_svc.backoff import Backoff
from serve_svc.registry.feed import RegistryFeed
from serve_svc.routing import NOTHING_KNOWN, BaseIdentity, Delta, Router, RoutingTable

Update = RoutingTable | Delta


class ScriptedWatch:
    """Gives one list of updates for each watch, then fails; the last watch stays open."""

    def __init__(self, *watches: list[Update]) -> None:
        """Keep the script."""
        self._watches = list(watches)
        self.is_done = asyncio.Event()

    async def watch(self) -> AsyncGenerator[Update, None]:
        """Play the next part."""
        for update in self._watches.pop(0):
            yield update
        if self._watches:
            raise Unavailable("gone")
        self.is_done.set()
        await asyncio.Event().wait()


class Followed:
    """A feed run over a script to its end, with what it told and how long it waited."""

    def __init__(self, *watches: list[Update]) -> None:
        """Keep the script."""
        self.router = Router(BaseIdentity("tiny", "b" * 64, "c" * 64))
        self.watch = ScriptedWatch(*watches)
        self.changes: list[tuple[int, int]] = []
        self.waits_s: list[float] = []
        self.feed = RegistryFeed(self.watch, self.router, self._note_change, self._note_wait)

    async def run(self) -> None:
        """Run until the script's end."""
        running = asyncio.create_task(self.feed.run())
        await self.watch.is_done.wait()
        self.was_following = self.feed.following
        running.cancel()
        await asyncio.wait([running])

    def _note_change(self, before: RoutingTable, after: RoutingTable) -> None:
        self.changes.append((before.generation, after.generation))

    async def _note_wait(self, seconds: float) -> None:
        self.waits_s.append(seconds)


def snapshot(generation: int) -> RoutingTable:
    """Return an empty state of that generation."""
    return NOTHING_KNOWN.apply(Delta(generation))


async def test_changes_are_told_with_what_was_before() -> None:
    """Whoever follows the feed sees each step once, in order."""
    followed = Followed([snapshot(3), Delta(4), Delta(7)])
    await followed.run()

    assert followed.changes == [(-1, 3), (3, 4), (4, 7)]


async def test_a_reconnection_with_nothing_new_tells_nothing() -> None:
    """The same snapshot again is no change, and the registry counts as followed."""
    followed = Followed([snapshot(3)], [snapshot(3)])
    await followed.run()

    assert followed.changes == [(-1, 3)]
    assert followed.was_following


async def test_an_older_state_is_refused_with_the_deltas_behind_it() -> None:
    """Deltas of a registry that went back would be laid over a state they do not fit."""
    followed = Followed([snapshot(5)], [snapshot(2), Delta(9)], [snapshot(5)])
    await followed.run()

    assert followed.router.table.generation == 5


@pytest.mark.parametrize("num_failures", [1, 4, 50])
def test_waits_grow_to_a_bound_and_differ(num_failures: int) -> None:
    """Servers that lost the registry together do not come back as one."""
    policy = Backoff(first_s=0.2, max_s=5.0)
    waits_s = {policy.delay_s(num_failures, random.Random(seed)) for seed in range(20)}

    assert len(waits_s) == 20
    assert max(waits_s) <= min(0.2 * 2.0**num_failures, 5.0)


async def test_waits_begin_anew_after_a_connection_that_worked() -> None:
    """A registry that restarts after days is dialled at once, however often it failed long ago."""
    followed = Followed([], [], [], [], [snapshot(1)], [snapshot(1)])
    await followed.run()

    assert followed.waits_s[-1] <= 0.4 < max(followed.waits_s)
