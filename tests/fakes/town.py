"""Many tenants on one engine with few slots: the product's own parts, without its ports, over an engine that can be troubled."""

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from adaptory.core.auth import Caller, Role
from adaptory.core.names import BotName, TenantName, VersionName
from serve_svc.adapters.cache import AdapterCache, LifePolicy
from serve_svc.adapters.deployment import Deployment
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.loading import Patience, ServedBase
from serve_svc.canary_watch import CanaryLimits, CanaryWatch
from serve_svc.deadline import Closing, Deadline
from serve_svc.engine.engine import Engine, Sampling
from serve_svc.engine.guarded_engine import GuardedEngine
from serve_svc.engine.supervisor import EngineState, Supervisor, SupervisorPolicy, SupervisorSeams
from serve_svc.generation import Generation, Line, Prompt, Watchers
from serve_svc.metrics import RequestMetrics
from serve_svc.queue.admission import Admission, AdmissionSeams
from serve_svc.routing import (
    BaseIdentity,
    BotKind,
    Delta,
    GenerationDefaults,
    RoutedBot,
    RoutedTenant,
    RoutedVersion,
    Router,
    RoutingTable,
)
from serve_svc.tenancy import Intake
from serve_svc.usage.day_tokens import DayTokens
from serve_svc.usage.meter import UsageMeter
from serve_svc.usage.quota import Quotas
from serve_svc.version import AdapterVersion
from tests.fakes.adapters import FolderSource, RecordingObserver
from tests.fakes.engine import SETTINGS
from tests.fakes.ground import Ground, TroubledEngine
from tests.fakes.queue import RecordingQueueObserver, queue_limits

BASE = BaseIdentity("tiny", "b" * 64, "t" * 64)
PROMPT_IDS = (1, 4093, 198, 504, 314, 253)  # of every request


@dataclass(eq=False)
class Asked:
    """One request: whose words its answer may be in, and what came of it."""

    tenant: str
    words: frozenset[str]
    heard: list[str] = field(default_factory=list)
    versions: set[VersionName] = field(default_factory=set)
    task: "asyncio.Task[Any] | None" = None


class Town:
    """Tenants, their bots and versions, and a server for all of them. Tenant n owns every folder whose index ends with n."""

    def __init__(self, root: Path, ground: Ground, folders: list[Path], num_tenants: int, seed: int) -> None:
        self.ground = ground
        self.folders = folders
        self.digests = [adapter_digest(folder) for folder in folders]
        self.words = [ground.word_of(folder) for folder in folders]
        self.num_tenants = num_tenants
        self.clock = ground.clock
        self.backends: list[TroubledEngine] = []
        self.source = FolderSource(dict(zip(self.digests, folders, strict=True)))
        self.observer = RecordingObserver()
        self.canaries = CanaryWatch(CanaryLimits(1_000_000, 1.0, 1e9))
        self.router = Router(BASE, self.canaries.ended)
        size = sum(file.stat().st_size for file in folders[0].iterdir())
        self.files = AdapterFiles(root, self.source, 6 * size, self.clock)
        self.files.clean()
        seams = SupervisorSeams(self.clock, self.clock.sleep)
        self.supervisor = Supervisor(self._build, SupervisorPolicy(), seams, self._entered)
        patience = Patience(sleep=self.clock.sleep, randomness=random.Random(seed))
        judge = partial(check_adapter, base=ground.shape, limits=AdapterLimits())
        policy = LifePolicy(patience=patience, clock=self.clock)
        self.cache = AdapterCache(self.supervisor, self.files, ServedBase(BASE.digest, judge), self.observer, policy)
        limits = queue_limits(max_in_flight=SETTINGS.max_sequences, max_adapters=SETTINGS.max_loras)
        self.admission = Admission(limits, AdmissionSeams(self.clock, lambda _: 1.0, RecordingQueueObserver()))
        self.deployment = Deployment(self.cache, self.router, SETTINGS.max_cpu_loras)
        quotas = Quotas(DayTokens(), self.clock, _read_new_year)
        line = Line(Intake(), self.admission, self.cache, self.supervisor, quotas)
        usage = UsageMeter(quotas, _read_new_year)
        watchers = Watchers(RequestMetrics(CollectorRegistry(), 100), self.canaries, usage)
        self.generation = Generation(line, watchers, b"secret")
        self.closing = Closing()
        self.requests: list[Asked] = []
        self._num_versions = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start the engine and the deployment, with every tenant's bot and no version."""
        self.ground.settle_in()
        await self.supervisor.start()
        names = [f"t{number}" for number in range(self.num_tenants)]
        tenants = {f"tenants/{name}": RoutedTenant(TenantName(name), frozenset(), 10_000) for name in names}
        defaults = GenerationDefaults(16, 0.0, 1.0)
        bots = {
            f"tenants/{name}/bots/b": RoutedBot(BotName(name, "b"), BotKind.FAQ, BASE.name, "", defaults, None, None)
            for name in names
        }
        self._tasks.append(asyncio.create_task(self.deployment.run()))
        self._replace(RoutingTable(0, tenants, bots, {}))

    async def close(self) -> None:
        """Stop everything."""
        for task in (*self._tasks, *(asked.task for asked in self.requests if asked.task)):
            task.cancel()
        await asyncio.gather(
            *self._tasks, *(asked.task for asked in self.requests if asked.task), return_exceptions=True
        )
        await self.cache.close()
        await self.supervisor.stop()

    @property
    def backend(self) -> TroubledEngine:
        """The engine that lives now, or lived last."""
        return self.backends[-1]

    def bot(self, tenant: int) -> RoutedBot:
        """Return a tenant's bot as it is routed now."""
        return self.router.table.bots[f"tenants/t{tenant}/bots/b"]

    def versions(self, tenant: int) -> list[RoutedVersion]:
        """Return a tenant's versions, oldest first."""
        owned = (version for version in self.router.table.versions.values() if version.name.tenant == f"t{tenant}")
        return sorted(owned, key=lambda version: version.name.number)

    def word(self, version: VersionName) -> str:
        """Return the word that a version was taught."""
        return self.words[self.digests.index(self.router.table.versions[str(version)].adapter.digest)]

    def deploy(self, tenant: int, folder: int) -> RoutedVersion:
        """Register a folder of the tenant's as its next version, under an engine id of its own."""
        self._num_versions += 1
        name = VersionName(f"t{tenant}", "b", self._num_versions)
        path = self.folders[folder]
        adapter = AdapterVersion(
            name=str(name),
            tenant=name.tenant,
            bot=name.bot,
            number=name.number,
            engine_id=self._num_versions,
            digest=self.digests[folder],
            rank=1,
            base_digest=BASE.digest,
            size_bytes=sum(file.stat().st_size for file in path.iterdir()),
        )
        version = RoutedVersion(name, adapter, "", BASE.template_digest)
        self.apply(versions=(version,))
        return version

    def route(self, tenant: int, **routes: Any) -> None:
        """Change a bot's routes, as PromoteVersion, SetCanary and RollbackBot do."""
        self.apply(bots=(replace(self.bot(tenant), **routes),))

    def apply(self, **changes: Any) -> None:
        """Have the server hear of a change."""
        self._replace(self.router.table.apply(Delta(self.router.table.generation + 1, **changes)))

    def ask(self, name: BotName | VersionName, num_tokens: int, key: str) -> Asked:
        """Begin a request; its answer comes while the loop runs."""
        bot = self.router.table.bots[f"tenants/{name.tenant}/bots/{name.bot}"]
        routed = (name,) if isinstance(name, VersionName) else (bot.production, bot.previous, bot.canary)
        words = frozenset(self.word(v) for v in routed if v and str(v) in self.router.table.versions)
        asked = Asked(name.tenant, words)
        asked.task = asyncio.create_task(self._answer(asked, name, num_tokens, key))
        self.requests.append(asked)
        return asked

    async def recover(self) -> None:
        """Return when there is an engine that answers; how long one takes to come up is the machine's matter."""
        while self.supervisor.state is not EngineState.SERVING or self.backend.is_dead:
            await self.clock.advance(1.0)

    async def settle(self, rounds: int = 200) -> None:
        """Let everything come to its end, time included."""
        for _ in range(rounds):
            await self.clock.advance(5.0)
            await self.recover()
            pending = [asked for asked in self.requests if asked.task and not asked.task.done()]
            leased = [adapter for adapter in self.cache.known() if adapter.num_leases]
            if not pending and not leased:
                return
        raise AssertionError(f"{len(pending)} requests never end, and these leases are never returned: {leased}")

    async def _answer(self, asked: Asked, name: BotName | VersionName, num_tokens: int, key: str) -> None:
        route = self.router.route(name, Caller(Role.TENANT, name.tenant), key)

        async def make_prompt(_: object) -> Prompt:
            return Prompt(PROMPT_IDS, Sampling(num_tokens, 0.0, 1.0, None, ()))

        deadline = Deadline(None, self.closing)
        async with aclosing(self.generation.run(route, make_prompt, deadline)) as steps:
            async for step in steps:
                asked.heard += step.text.split()
                if step.reason:
                    asked.versions.add(step.end(step.reason).version)

    def _replace(self, after: RoutingTable) -> None:
        before, self.router.table = self.router.table, after
        self.deployment.follow(before, after)
        self.canaries.follow(after)

    async def _build(self) -> Engine:
        backend = await self.ground.build()
        self.backends.append(backend)
        return GuardedEngine(backend, SETTINGS)

    def _entered(self, state: EngineState) -> None:
        if state is EngineState.SERVING:
            self.deployment.refill()
        else:
            self.cache.engine_lost()


def _read_new_year() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)
