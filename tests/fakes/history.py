"""Whole histories of many tenants: whatever happens, in whatever order, nobody hears a foreign word or two versions in one answer.

Random steps over 32 adapters, each of which says one word of its own, on an engine that runs 2 of them at once, holds 4, and a disk
that keeps 6. The parts are the product's: router, queue, generation, cache, files, deployment, supervisor.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from adaptory.core.errors import ServiceError
from adaptory.core.names import BotName, VersionName
from serve_svc.adapters.life import AdapterState
from serve_svc.engine.supervisor import EngineState
from serve_svc.routing import RoutedVersion
from tests.fakes.engine import SETTINGS
from tests.fakes.town import Asked, Town

NUM_ADAPTERS, NUM_TENANTS = 32, 8


class History:
    """One random history; `disasters` is how often an engine dies or computes NaN, 1 for once in some hundred steps."""

    def __init__(self, town: Town, seed: int, disasters: int) -> None:
        self.town = town
        self.random = random.Random(seed)
        self.trail: deque[str] = deque(maxlen=40)
        self.num_heard = 0  # words of requests that are over
        self.steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.request, 30),
            (self.request_version, 8),
            (self.leave, 6),
            (self.deploy, 8),
            (self.promote, 10),
            (self.try_canary, 4),
            (self.end_canary, 2),
            (self.roll_back, 4),
            (self.retire, 8),
            (self.warm, 3),
            (self.lose_source, 2),
            (self.find_source, 4),
            (self.damage_transfer, 2),
            (self.damage_disk, 2),
            (self.hold_loads, 2),
            (self.release_loads, 5),
            (self.refuse_load, 1),
            (self.poison, disasters),
            (self.kill, disasters),
            (self.release, 3),
            (self.pass_time, 10),
        ]

    def move_in(self) -> None:
        """Begin with two versions of every tenant, one of which answers: a short history would not come to that by chance."""
        for tenant in range(NUM_TENANTS):
            production, _ = (self.town.deploy(tenant, self.pick_folder(tenant)) for _ in range(2))
            self.town.route(tenant, production=production.name)

    async def run(self, num_steps: int) -> None:
        """Take so many steps, and look at everything after each."""
        works, weights = zip(*self.steps, strict=True)
        for _ in range(num_steps):
            (step,) = self.random.choices(works, weights)
            self.trail.append(step.__name__)
            await step()
            await self.town.ground.breathe(self.random.randrange(8))
            self.check()

    def check(self) -> None:
        """Hold every promise to the state as it is now."""
        town, backend = self.town, self.town.backend
        for asked in town.requests:
            assert set(asked.heard) <= asked.words, "a foreign word"
            assert len(set(asked.heard)) <= 1, "a stream of two versions"
        over = [asked for asked in town.requests if is_over(asked)]
        self.num_heard += sum(len(asked.heard) for asked in over)
        town.requests = [asked for asked in town.requests if asked not in over]
        assert backend.num_loads_in_steps == 0, "the engine had to load within a step"
        assert backend.num_dropped == 0, "the engine had to drop an adapter unasked"
        assert len(backend.registered) <= SETTINGS.max_cpu_loras
        assert len(backend.running.keys() - {0}) <= SETTINGS.max_loras, "more adapters at once than slots"
        known = {adapter.version.engine_id: adapter for adapter in town.cache.known()}
        if town.supervisor.state is EngineState.SERVING and not backend.is_dead:
            for engine_id in backend.registered:
                folder = town.files.folder_of(known[engine_id].version.digest)
                assert folder.is_dir(), "the engine names files that are gone"
        named = sum(adapter.state is AdapterState.LOADED for adapter in known.values())
        assert named <= SETTINGS.max_cpu_loras

    async def rest(self) -> None:
        """End all trouble; then every request ends, no lease is left, and what is retired leaves no trace."""
        town = self.town
        await self.find_source()
        await self.release_loads()
        town.backend.num_refusals = 0
        await town.settle()
        self.check()
        assert town.admission.num_in_flight == town.admission.num_waiting == 0
        assert not [adapter for adapter in town.cache.known() if adapter.num_leases]
        await self.answer_all()
        bare = (replace(town.bot(tenant), production=None, previous=None, canary=None) for tenant in range(NUM_TENANTS))
        town.apply(removed=frozenset(town.router.table.versions), bots=tuple(bare))
        await town.settle()
        for _ in range(3):
            await town.clock.advance(1.0)
        assert town.cache.known() == ()
        assert town.files.num_bytes == 0
        assert town.backend.registered == frozenset()

    async def answer_all(self) -> None:
        """Every bot's newest good version answers with its word, once it is promoted."""
        town = self.town
        for tenant in range(NUM_TENANTS):
            version = town.deploy(tenant, self.pick_folder(tenant))
            town.route(tenant, production=version.name, previous=None, canary=None)
            asked = town.ask(BotName(f"t{tenant}", "b"), 3, "key")
            await town.settle()
            assert asked.heard == [town.word(version.name)] * 3
            assert asked.versions == {version.name}

    async def request(self) -> None:
        """Somebody asks a bot."""
        tenant = self.pick_tenant()
        if self.town.bot(tenant).production:
            self.ask(BotName(f"t{tenant}", "b"))

    async def request_version(self) -> None:
        """Somebody asks a version by its name."""
        if version := self.pick_version():
            self.ask(version.name)

    async def leave(self) -> None:
        """A caller goes away."""
        if self.town.requests and (task := self.random.choice(self.town.requests).task):
            task.cancel()

    async def deploy(self) -> None:
        """A tenant registers a version, at times with the bytes of an earlier one."""
        tenant = self.pick_tenant()
        if len(self.town.versions(tenant)) < 5:
            self.town.deploy(tenant, self.pick_folder(tenant))

    async def promote(self) -> None:
        """A version answers from now on."""
        if version := self.pick_version():
            tenant = int(version.name.tenant[1:])
            bot = self.town.bot(tenant)
            if version.name != bot.production:
                canary = None if bot.canary == version.name else bot.canary
                self.town.route(tenant, production=version.name, previous=bot.production, canary=canary)

    async def try_canary(self) -> None:
        """A version answers some conversations."""
        if version := self.pick_version():
            tenant = int(version.name.tenant[1:])
            if self.town.bot(tenant).production not in {None, version.name}:
                percent = self.random.choice((10, 50, 100))
                self.town.route(tenant, canary=version.name, canary_percent=percent)

    async def end_canary(self) -> None:
        """A canary answers no more."""
        self.town.route(self.pick_tenant(), canary=None, canary_percent=0)

    async def roll_back(self) -> None:
        """The version before answers again."""
        tenant = self.pick_tenant()
        bot = self.town.bot(tenant)
        if bot.previous:
            self.town.route(tenant, production=bot.previous, previous=bot.production)

    async def retire(self) -> None:
        """A version that neither answers nor is tried is taken down, streams or not."""
        if version := self.pick_version():
            tenant = int(version.name.tenant[1:])
            bot = self.town.bot(tenant)
            if version.name not in {bot.production, bot.canary}:
                previous = None if bot.previous == version.name else bot.previous
                bots = (replace(bot, previous=previous),)
                self.town.apply(removed=frozenset({str(version.name)}), bots=bots)

    async def warm(self) -> None:
        """An operator loads a version."""
        if version := self.pick_version():
            self.operate(version, self.town.deployment.warm(version.adapter))

    async def lose_source(self) -> None:
        """The registry gives no bytes."""
        self.town.source.is_down = True

    async def find_source(self) -> None:
        """The registry gives bytes again."""
        self.town.source.is_down = False
        self.town.source.num_damaged = 0

    async def damage_transfer(self) -> None:
        """The next download, or two, loses bytes."""
        self.town.source.num_damaged = self.random.randint(1, 2)

    async def damage_disk(self) -> None:
        """Somebody overwrites a file in the store."""
        if version := self.pick_version():
            file = self.town.files.folder_of(version.adapter.digest) / "adapter_model.safetensors"
            if file.exists():
                file.write_bytes(b"damaged")

    async def hold_loads(self) -> None:
        """The engine's loads take long."""
        self.town.backend.hold_loads()

    async def release_loads(self) -> None:
        """The engine's loads end."""
        self.town.backend.release_loads()

    async def refuse_load(self) -> None:
        """The engine will refuse an adapter that the judge let pass."""
        self.town.backend.num_refusals = 1

    async def poison(self) -> None:
        """A version begins to compute NaN."""
        if self.town.backend.registered:
            self.town.backend.poisoned.add(self.random.choice(sorted(self.town.backend.registered)))

    async def kill(self) -> None:
        """The engine's process ends."""
        self.town.backend.release_loads()
        self.town.backend.kill()

    async def release(self) -> None:
        """An operator releases a version."""
        if version := self.pick_version():
            self.operate(version, self.town.cache.release(version.adapter))

    async def pass_time(self) -> None:
        """Some time goes by."""
        await self.town.clock.advance(self.random.choice((0.1, 1.0, 1.0, 5.0, 40.0)))

    def ask(self, name: BotName | VersionName) -> None:
        """Begin a request, beside those that run."""
        if len(self.town.requests) < 24:
            self.town.ask(name, self.random.randint(1, 12), f"key {self.random.randrange(50)}")

    def operate(self, version: RoutedVersion, work: Coroutine[Any, Any, Any]) -> None:
        """Begin what an operator wants of a version, who may leave like any caller."""
        self.town.requests.append(Asked(version.name.tenant, frozenset(), task=asyncio.create_task(work)))

    def pick_tenant(self) -> int:
        """Return a tenant, the first ones more often."""
        return min(self.random.randrange(NUM_TENANTS), self.random.randrange(NUM_TENANTS))

    def pick_folder(self, tenant: int) -> int:
        """Return one of a tenant's own adapters."""
        return tenant + NUM_TENANTS * self.random.randrange(NUM_ADAPTERS // NUM_TENANTS)

    def pick_version(self) -> RoutedVersion | None:
        """Return a version of some tenant, if it has any."""
        versions = self.town.versions(self.pick_tenant())
        return self.random.choice(versions) if versions else None


def is_over(asked: Asked) -> bool:
    """Tell whether a request has ended; one that ended with anything but an error for people is a bug."""
    if asked.task is None or not asked.task.done():
        return False
    error = None if asked.task.cancelled() else asked.task.exception()
    if error is not None and not isinstance(error, ServiceError):
        raise error
    return True
