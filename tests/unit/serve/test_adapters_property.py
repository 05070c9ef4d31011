"""The adapter cache under arbitrary histories: hypothesis picks who leases, returns, damages and takes down what."""

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from serve_svc.adapters.cache import AdapterCache
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.loading import ServedBase
from serve_svc.engine.engine import EngineAdapter, EngineRequest, Sampling
from serve_svc.version import AdapterVersion
from tests.adapters import tiny_shape, write_adapter
from tests.fakes.adapters import FolderSource, RecordingObserver
from tests.fakes.engine import SETTINGS, fake_engine, voice_of

NUM_VERSIONS = SETTINGS.max_cpu_loras + 2
indices = st.integers(0, NUM_VERSIONS - 1)
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters to choose from; the last two have equal files."""
    root = tmp_path_factory.mktemp("sources")
    seeds = [*range(NUM_VERSIONS - 1), NUM_VERSIONS - 2]
    return [write_adapter(root / str(number), tiny_shape(), seed=seed) for number, seed in enumerate(seeds)]


class AdapterHistory(RuleBasedStateMachine):
    """Leases, returns, damage and take-downs in any order, against a fake engine with vLLM's faults."""

    sources: list[Path]

    def __init__(self) -> None:
        """Begin with nothing resident and nothing on disk."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = tempfile.TemporaryDirectory()
        self.engine, self.backend = fake_engine()
        self.observer = RecordingObserver()
        self.versions = [self.version_of(folder, number) for number, folder in enumerate(self.sources, start=1)]
        source = FolderSource(
            {version.digest: folder for version, folder in zip(self.versions, self.sources, strict=True)}
        )
        self.files = AdapterFiles(Path(self.root.name), source)
        judge = partial(check_adapter, base=tiny_shape(), limits=AdapterLimits())
        self.cache = AdapterCache(self.engine, self.files, ServedBase("base", judge), self.observer)
        self.leases: list[tuple[AdapterVersion, EngineAdapter, AsyncExitStack]] = []

    def has_room(self) -> bool:
        """Tell whether a lease of any version can be had without waiting for another to end."""
        return len({version.engine_id for version, _, _ in self.leases}) < SETTINGS.max_cpu_loras

    @precondition(has_room)
    @rule(index=indices, num_at_once=st.integers(1, 3))
    def lease(self, index: int, num_at_once: int) -> None:
        """Some requests for one version arrive together and stay."""
        version = self.versions[index]
        loads_before = len(self.backend.loads)

        self.leases += self.run(together(*(self.enter(version) for _ in range(num_at_once))))

        assert len(self.backend.loads) - loads_before <= 1

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """One of the requests ends."""
        _, _, lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.run(lease.aclose())

    @rule(index=indices)
    def undeploy(self, index: int) -> None:
        """A version is taken down; its last requests end meanwhile."""
        version = self.versions[index]
        ending = [lease for lease in self.leases if lease[0] == version]
        self.leases = [lease for lease in self.leases if lease[0] != version]

        self.run(together(self.cache.undeploy(version), *(lease.aclose() for _, _, lease in ending)))

        assert version.engine_id not in self.run(self.backend.list_loras())

    @rule(index=indices)
    def damage(self, index: int) -> None:
        """Somebody overwrites a file in the store."""
        file = self.files.folder_of(self.versions[index].digest) / "adapter_model.safetensors"
        if file.exists():
            file.write_bytes(b"damaged")

    @invariant()
    def leased_versions_are_resident_with_their_files(self) -> None:
        """Whatever a request holds, the engine can name, and the engine can read again."""
        registered = self.run(self.backend.list_loras())

        assert {version.engine_id for version, _, _ in self.leases} <= registered
        assert all(adapter.path.is_dir() for _, adapter, _ in self.leases)

    @invariant()
    def engine_never_holds_more_than_it_keeps(self) -> None:
        """The engine never has to drop an adapter unasked."""
        assert len(self.run(self.backend.list_loras())) <= SETTINGS.max_cpu_loras

    @invariant()
    def every_load_has_one_unload_or_is_resident(self) -> None:
        """No version is ever loaded while it is loaded."""
        registered = self.run(self.backend.list_loras())
        for version in self.versions:
            num_unloads = self.observer.unloaded.count(version)
            assert self.backend.loads.count(version.engine_id) == num_unloads + (version.engine_id in registered)

    @invariant()
    def leases_answer_with_the_weights_of_their_version(self) -> None:
        """An id never speaks with another version's voice."""
        for version, adapter, _ in self.leases:
            assert self.run(self.first_word(adapter)) == voice_of(self.sources[version.number - 1])

    def teardown(self) -> None:
        """End what is left."""
        for _, _, lease in self.leases:
            self.run(lease.aclose())
        self.run(self.cache.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.root.cleanup()

    def run(self, work: Coroutine[object, object, _Result]) -> _Result:
        """Run something to its end on this history's loop."""
        return self.loop.run_until_complete(work)

    async def enter(self, version: AdapterVersion) -> tuple[AdapterVersion, EngineAdapter, AsyncExitStack]:
        """Take a lease and keep it open."""
        lease = AsyncExitStack()
        return version, await lease.enter_async_context(self.cache.lease(version)), lease

    async def first_word(self, adapter: EngineAdapter) -> str:
        """Ask the engine for one word of the adapter."""
        request = EngineRequest("r", (1,), Sampling(1, 0.0, 1.0, None, ()), adapter, "salt")
        async with aclosing(self.engine.generate(request)) as chunks:
            return (await anext(chunks)).text.strip()

    def version_of(self, folder: Path, number: int) -> AdapterVersion:
        """Describe a source folder as the registry would."""
        return AdapterVersion(
            name=f"tenants/t/bots/b/versions/{number}",
            tenant="t",
            bot=f"b{number}",
            number=number,
            engine_id=number,
            digest=adapter_digest(folder),
            rank=8,
            base_digest="base",
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        )


async def together(*work: Coroutine[object, object, _Result]) -> list[_Result]:
    """Run several things at once."""
    return await asyncio.gather(*work)


def test_cache_keeps_its_promises_in_every_history(sources: list[Path]) -> None:
    """No history loads twice, holds too much, unloads what is in use, or answers with another version's weights."""
    machine: Any = type("Histories", (AdapterHistory,), {"sources": sources})
    machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()
