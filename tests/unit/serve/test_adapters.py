"""The life of adapters: what is loaded when, what makes room, what goes wrong, and what stays promised meanwhile."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from adaptory.core.base_shape import LINEAR_MODULES
from adaptory.core.errors import AdapterRejected, Corrupted, FailedPrecondition, Unavailable
from serve_svc.adapters.cache import AdapterCache, LifePolicy
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.life import AdapterState
from serve_svc.adapters.loading import Patience, ServedBase
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import (
    AdapterLoadFailed,
    Engine,
    EngineAdapter,
    EngineDiedLoading,
    EngineRequest,
    Sampling,
)
from serve_svc.engine.supervisor import EngineState, Supervisor, SupervisorPolicy, SupervisorSeams
from serve_svc.version import AdapterVersion
from tests.adapters import random_tensors, read_config, tiny_shape, write_adapter, write_config, write_weights
from tests.fakes.adapters import FolderSource, RecordingObserver
from tests.fakes.clock import ManualClock, settle
from tests.fakes.engine import FakeVllm, fake_engine, voice_of

BASE_DIGEST = "b" * 64


class Depot:
    """A cache over a supervised fake engine, and a source that offers what a test has published. `judges` may be set to False."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backends: list[FakeVllm] = []
        self.clock = ManualClock()
        seams = SupervisorSeams(self.clock, self.clock.sleep)
        self.engine = Supervisor(self._build, SupervisorPolicy(first_backoff_s=1.0), seams, self._entered)
        self.source = FolderSource({})
        self.observer = RecordingObserver()
        self.store = root / "store"
        self.naps_s: list[float] = []
        self.judges = True
        self._patience = Patience(sleep=self._nap, randomness=random.Random(1))
        self.limit_disk(None)
        self._num_published = 0

    def limit_disk(self, max_bytes: int | None) -> None:
        """Begin anew with a store of so many bytes."""
        self.files = AdapterFiles(self.store, self.source, max_bytes, self.clock)
        self.files.clean()
        base = ServedBase(BASE_DIGEST, self._judge)
        policy = LifePolicy(patience=self._patience, clock=self.clock)
        self.cache = AdapterCache(self.engine, self.files, base, self.observer, policy)

    @property
    def backend(self) -> FakeVllm:
        """The fake below the engine that was built last."""
        return self.backends[-1]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)

    async def reached(self, condition: Callable[[], bool]) -> None:
        """Wait, threads included, until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await settle()

    async def replace_engine(self) -> None:
        """Kill the engine and wait for the next."""
        dead = self.backend
        dead.kill()
        while self.backend is dead or self.engine.state is not EngineState.SERVING:
            await self.clock.advance(1.0)

    async def _build(self) -> Engine:
        engine, backend = fake_engine()
        self.backends.append(backend)
        return engine

    def _entered(self, state: EngineState) -> None:
        if state is EngineState.RECOVERING:
            self.cache.engine_lost()

    async def _nap(self, seconds: float) -> None:
        self.naps_s.append(seconds)

    def _judge(self, folder: Path) -> None:
        if self.judges:
            check_adapter(folder, base=tiny_shape(), limits=AdapterLimits())

    def publish(self, tenant: str = "acme", *, seed: int | None = None) -> AdapterVersion:
        """Offer a good adapter of the tenant as its next version; equal seeds make equal files."""
        self._num_published += 1
        folder = self.root / f"source-{self._num_published}"
        write_adapter(folder, tiny_shape(), seed=self._num_published if seed is None else seed)
        return self.offer(folder, tenant)

    def offer(self, folder: Path, tenant: str = "acme") -> AdapterVersion:
        """Offer whatever is in the folder as a version."""
        number = len(self.source.folders) + self._num_published * 100 + 1
        digest = adapter_digest(folder)
        self.source.folders[digest] = folder
        return AdapterVersion(
            name=f"tenants/{tenant}/bots/faq/versions/{number}",
            tenant=tenant,
            bot="faq",
            number=number,
            engine_id=number,
            digest=digest,
            rank=8,
            base_digest=BASE_DIGEST,
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        )

    def voice(self, version: AdapterVersion) -> str:
        """Return the word that this version speaks."""
        return voice_of(self.source.folders[version.digest])

    async def warm(self, *versions: AdapterVersion) -> None:
        """Use versions once, in this order."""
        for version in versions:
            async with self.cache.lease(version):
                pass


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[Depot]:
    """A depot with nothing published."""
    depot = Depot(tmp_path)
    await depot.engine.start()
    yield depot
    depot.backend.release_loads()
    await depot.cache.close()
    await depot.engine.stop()


def request(adapter: EngineAdapter, num_tokens: int = 3) -> EngineRequest:
    """Ask an adapter for some words."""
    return EngineRequest("r", (1, 2, 3), Sampling(num_tokens, 0.0, 1.0, None, ()), adapter, "salt")


async def speak(depot: Depot, version: AdapterVersion) -> set[str]:
    """Lease the version and return the different words it answers with."""
    async with depot.cache.lease(version) as adapter, aclosing(depot.engine.generate(request(adapter))) as chunks:
        return {chunk.text.strip() async for chunk in chunks}


async def test_leases_at_once_share_one_load(depot: Depot) -> None:
    """Ten requests for a cold version cause one download and one load, and all get its answer."""
    version = depot.publish()

    answers = await asyncio.gather(*(speak(depot, version) for _ in range(10)))

    assert answers == [{depot.voice(version)}] * 10
    assert (depot.source.num_reads, depot.backend.loads) == (1, [version.engine_id])


async def test_versions_of_equal_bytes_live_side_by_side(depot: Depot) -> None:
    """The same data and seed make the same adapter again: its second version is loaded too, under a name of its own."""
    first, second = depot.publish(seed=1), depot.publish(seed=1)

    await depot.warm(first, second)

    assert first.digest == second.digest
    assert await depot.engine.resident_adapters() == {first.engine_id, second.engine_id}


async def test_load_goes_on_when_its_caller_gives_up(depot: Depot) -> None:
    """A cancelled request leaves the load running, and the next one finds the version resident."""
    version = depot.publish()
    depot.backend.hold_loads()
    caller = asyncio.create_task(speak(depot, version))
    await settle()
    caller.cancel()
    await asyncio.wait([caller])

    depot.backend.release_loads()
    await speak(depot, version)

    assert caller.cancelled()
    assert depot.backend.loads == [version.engine_id]


async def test_least_recently_used_version_makes_room(depot: Depot) -> None:
    """Beyond the capacity of four, the idle version that was used longest ago goes."""
    versions = [depot.publish() for _ in range(5)]
    await depot.warm(*versions[:4], versions[0])

    await depot.warm(versions[4])

    assert depot.observer.unloaded == [versions[1]]
    assert {known.version for known in await depot.cache.residents()} == {versions[0], *versions[2:]}


async def test_version_in_use_never_makes_room(depot: Depot) -> None:
    """With all four leased a fifth waits, and takes the place of the one that is returned first."""
    versions = [depot.publish() for _ in range(5)]
    async with AsyncExitStack() as others:
        first = AsyncExitStack()
        await first.enter_async_context(depot.cache.lease(versions[0]))
        for version in versions[1:4]:
            await others.enter_async_context(depot.cache.lease(version))

        late = asyncio.create_task(speak(depot, versions[4]))
        await asyncio.wait([late], timeout=0.05)
        unloaded_while_leased = list(depot.observer.unloaded)
        await first.aclose()

        assert await late == {depot.voice(versions[4])}
    assert unloaded_while_leased == []
    assert depot.observer.unloaded == [versions[0]]


async def test_promotion_leaves_running_streams_on_their_version(depot: Depot) -> None:
    """A stream that began on the old version ends on it, while new requests are answered by the new one."""
    old, new = depot.publish(), depot.publish()
    async with depot.cache.lease(old) as adapter, aclosing(depot.engine.generate(request(adapter, 50))) as stream:
        words = [(await anext(stream)).text.strip()]

        answer_of_new = await speak(depot, new)
        words += [chunk.text.strip() async for chunk in stream]

    assert answer_of_new == {depot.voice(new)}
    assert words == [depot.voice(old)] * 50


async def test_stream_of_another_tenant_goes_on_after_a_load(depot: Depot) -> None:
    """A load holds everybody's tokens back, and costs nobody one."""
    busy, cold = depot.publish("acme"), depot.publish("globex")
    async with depot.cache.lease(busy) as adapter, aclosing(depot.engine.generate(request(adapter, 20))) as stream:
        words = [(await anext(stream)).text.strip()]
        depot.backend.hold_loads()
        load = asyncio.create_task(speak(depot, cold))
        rest = asyncio.create_task(collect(stream))
        await settle()

        depot.backend.release_loads()
        words += await rest

    assert words == [depot.voice(busy)] * 20
    assert await load == {depot.voice(cold)}


async def test_undeploy_waits_for_the_last_stream_and_admits_no_other(depot: Depot) -> None:
    """While a version drains it takes no new request; then it is gone from the engine and from the disk."""
    version = depot.publish()
    async with depot.cache.lease(version) as adapter:
        undeploy = asyncio.create_task(depot.cache.undeploy(version))
        await settle()
        with pytest.raises(FailedPrecondition) as refusal:
            await speak(depot, version)
        is_kept = adapter.path.exists() and not undeploy.done()
    await undeploy

    assert refusal.value.reason == "VERSION_RETIRED"
    assert is_kept
    assert (adapter.path.exists(), await depot.backend.list_loras()) == (False, set())


async def test_undeploy_keeps_files_that_another_version_shares(depot: Depot) -> None:
    """Two versions with equal files share a folder, which lives as long as either."""
    one, twin = depot.publish("acme", seed=7), depot.publish("globex", seed=7)
    await depot.warm(one, twin)

    await depot.cache.undeploy(one)

    assert one.digest == twin.digest
    assert await speak(depot, twin) == {depot.voice(twin)}
    assert depot.files.folder_of(twin.digest).is_dir()


async def test_version_of_another_base_is_refused_with_both_digests(depot: Depot) -> None:
    """What was judged on one base is never served on another."""
    version = replace(depot.publish(), base_digest="c" * 64)

    with pytest.raises(FailedPrecondition, match=f"{'c' * 64}.*{BASE_DIGEST}"):
        await speak(depot, version)


async def test_wrong_bytes_are_refused_for_good_and_the_former_version_serves_on(depot: Depot) -> None:
    """A source with other bytes than registered is asked twice, then nobody asks again; other versions do not notice."""
    former, version = depot.publish(), depot.publish()
    depot.source.folders[version.digest] = depot.source.folders[former.digest]
    await depot.warm(former)
    num_reads = depot.source.num_reads

    with pytest.raises(Corrupted, match=version.digest):
        await speak(depot, version)
    await depot.pass_time(1e6)
    with pytest.raises(FailedPrecondition, match=version.digest) as refusal:
        await speak(depot, version)

    assert (refusal.value.reason, refusal.value.metadata["cause"]) == ("VERSION_QUARANTINED", "CORRUPTED")
    assert depot.source.num_reads == num_reads + 2
    assert await speak(depot, former) == {depot.voice(former)}


async def test_bytes_damaged_on_their_way_are_fetched_once_more(depot: Depot) -> None:
    """One damaged transfer is no fault of the version."""
    version = depot.publish()
    depot.source.num_damaged = 1

    assert await speak(depot, version) == {depot.voice(version)}
    assert (depot.source.num_reads, depot.observer.failed) == (2, [])


async def test_folder_damaged_on_disk_is_fetched_again(depot: Depot) -> None:
    """One flipped bit in the store is found before the next load, and healed from the source."""
    version = depot.publish()
    folder = await depot.files.fetch(version)
    flip_bit(folder / "adapter_model.safetensors")

    assert await speak(depot, version) == {depot.voice(version)}
    assert (depot.source.num_reads, adapter_digest(folder)) == (2, version.digest)


@pytest.mark.parametrize("extra", [b"x", b"x" * 1_000_000])
async def test_download_of_more_bytes_than_registered_is_cut_off(depot: Depot, extra: bytes) -> None:
    """The size in the registry is the limit of what is written to disk, and nothing of it stays."""
    version = depot.publish()
    with (depot.source.folders[version.digest] / "adapter_model.safetensors").open("ab") as file:
        file.write(extra)

    with pytest.raises(Corrupted, match=f"{version.size_bytes} bytes"):
        await speak(depot, version)

    assert list(depot.store.iterdir()) == []


async def test_file_that_is_no_adapter_file_is_not_written(depot: Depot) -> None:
    """A source that sends a third file is refused before a byte of it is on disk."""
    version = replace(depot.publish(), size_bytes=10**9)
    (depot.source.folders[version.digest] / "training_args.bin").write_bytes(b"pickle")

    with pytest.raises(Corrupted, match=r"training_args\.bin"):
        await speak(depot, version)

    assert not list(depot.store.rglob("*.bin"))


async def test_interrupted_download_is_cleaned_up_at_the_next_start(depot: Depot) -> None:
    """What a killed process left behind neither passes for an adapter nor stays."""
    version = depot.publish()
    leftover = depot.files._make_aside(version.digest)
    (leftover / "adapter_config.json").write_text("{")

    depot.files.clean()

    assert not leftover.exists()
    assert await speak(depot, version) == {depot.voice(version)}


async def test_source_that_is_down_is_asked_again(depot: Depot) -> None:
    """Not to reach the registry is no fault of the version: a load asks three times, and the next request tries again."""
    version = depot.publish()
    depot.source.is_down = True
    with pytest.raises(Unavailable):
        await speak(depot, version)
    num_asked = depot.source.num_refused

    depot.source.is_down = False

    assert await speak(depot, version) == {depot.voice(version)}
    assert (num_asked, len(depot.naps_s)) == (3, 2)
    assert depot.naps_s[0] < depot.naps_s[1]


async def test_version_that_fails_again_and_again_is_left_alone_for_a_growing_time(depot: Depot) -> None:
    """After three failures in a minute callers are refused without a try, until a pause is over; each failed try doubles it."""
    version = depot.publish()
    depot.source.is_down = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="registry is down"):
            await speak(depot, version)
    num_asked = depot.source.num_refused

    retries_s = []
    for _ in range(3):
        with pytest.raises(Unavailable, match="in quarantine since") as refusal:
            await speak(depot, version)
        retries_s.append(refusal.value.retry_after_s)
        await depot.pass_time(refusal.value.retry_after_s or 0)
        with pytest.raises(Unavailable, match="registry is down"):
            await speak(depot, version)

    assert retries_s == [30, 60, 120]
    assert depot.source.num_refused == num_asked + 3 * 3
    depot.source.is_down = False
    await depot.pass_time(240)
    assert await speak(depot, version) == {depot.voice(version)}
    assert [known.state for known in depot.cache.known()] == [AdapterState.LOADED]


async def test_failures_far_apart_are_each_forgotten(depot: Depot) -> None:
    """Three failures in an hour are no reason to refuse a version; of one that is not here nothing is kept after a minute."""
    version, other = depot.publish(), depot.publish()
    for _ in range(4):
        depot.source.is_down = True
        with pytest.raises(Unavailable, match="registry is down"):
            await speak(depot, version)
        await depot.pass_time(1200)
    with pytest.raises(Unavailable, match="registry is down"):
        await speak(depot, other)

    assert [known.version for known in depot.cache.known()] == [other]


async def test_operator_has_a_version_in_quarantine_tried_again(depot: Depot) -> None:
    """Once the source is repaired a release ends the refusal at once; who was not refused needs none."""
    version, other = depot.publish(), depot.publish()
    good = depot.source.folders[version.digest]
    depot.source.folders[version.digest] = depot.source.folders[other.digest]
    with pytest.raises(Corrupted):
        await speak(depot, version)

    depot.source.folders[version.digest] = good
    released = await depot.cache.release(version)

    assert released is not None
    assert released.cause.reason == "CORRUPTED"
    assert await speak(depot, version) == {depot.voice(version)}
    assert await depot.cache.release(version) is None


async def test_id_that_the_engine_refused_is_never_offered_again(depot: Depot) -> None:
    """A second load would be answered with what is left in the slot: no release and no new engine makes it try again."""
    depot.judges = False
    folder = write_adapter(depot.root / "liar", tiny_shape(), rank=16)
    version = depot.offer(folder)
    with pytest.raises(AdapterLoadFailed):
        await speak(depot, version)

    with pytest.raises(FailedPrecondition) as refusal:
        await depot.cache.release(version)
    with pytest.raises(FailedPrecondition, match="in quarantine"):
        await speak(depot, version)

    assert refusal.value.reason == "ENGINE_ID_SPENT"
    assert depot.backend.loads == [version.engine_id]


async def test_version_whose_load_ends_two_engines_is_refused(depot: Depot) -> None:
    """The first death may be chance; after the second the version waits for an operator."""
    version = depot.publish()
    for _ in range(2):
        depot.backend.hold_loads()
        load = asyncio.create_task(speak(depot, version))
        await depot.reached(lambda: depot.backend.num_loads_held == 1)
        await depot.replace_engine()
        assert isinstance((await asyncio.gather(load, return_exceptions=True))[0], EngineDiedLoading)

    with pytest.raises(FailedPrecondition, match="in quarantine"):
        await speak(depot, version)
    await depot.cache.release(version)

    assert await speak(depot, version) == {depot.voice(version)}


async def test_version_that_computes_nan_is_refused_and_no_other(depot: Depot) -> None:
    """The stream that met NaN first puts its version in quarantine; one beside it ends too, and its version is served on."""
    depot.judges = False
    good, poison = depot.publish(), depot.offer(write_poison(depot.root / "poison"))
    async with depot.cache.lease(good) as adapter, aclosing(depot.engine.generate(request(adapter, 9))) as bystander:
        await anext(bystander)
        with pytest.raises(OutputCorrupted):
            await speak(depot, poison)
        with pytest.raises(OutputCorrupted):
            await collect(bystander)
    await depot.replace_engine()

    with pytest.raises(FailedPrecondition) as refusal:
        await speak(depot, poison)
    assert refusal.value.metadata["cause"] == "OUTPUT_CORRUPTED"
    assert await speak(depot, good) == {depot.voice(good)}


async def test_disk_keeps_what_was_used_last_within_its_bytes(depot: Depot) -> None:
    """Beyond the limit the folder used longest ago goes, and nothing is kept of its version; what the engine holds stays."""
    versions = [depot.publish() for _ in range(7)]
    depot.limit_disk(5 * versions[0].size_bytes)

    await depot.warm(*versions)

    on_disk = {version for version in versions if depot.files.folder_of(version.digest).exists()}
    assert on_disk == set(versions[2:])
    assert {known.version: known.state for known in depot.cache.known()} == {
        versions[2]: AdapterState.VERIFIED,
        **dict.fromkeys(versions[3:], AdapterState.LOADED),
    }
    await depot.warm(versions[0])
    assert depot.source.num_reads == 8


async def test_disk_never_loses_what_the_engine_can_name(depot: Depot) -> None:
    """A limit below what is resident is exceeded, since the engine may read those files at any time."""
    versions = [depot.publish() for _ in range(4)]
    depot.limit_disk(1)

    await depot.warm(*versions)

    assert all(depot.files.folder_of(version.digest).exists() for version in versions)


async def test_uses_are_remembered_by_the_disk(depot: Depot) -> None:
    """A process that starts on the same store knows what was used last."""
    versions = [depot.publish() for _ in range(3)]
    await depot.warm(*versions)
    await depot.pass_time(120)
    await depot.warm(versions[0])

    heir = AdapterFiles(depot.store, depot.source)
    heir.clean()

    recency = heir.recency()
    assert max(recency, key=lambda digest: recency[digest]) == versions[0].digest
    assert set(recency) == {version.digest for version in versions}


async def test_folders_of_versions_that_are_gone_are_swept(depot: Depot) -> None:
    """What was retired while nobody looked leaves the disk, unless it is still in use."""
    gone, kept, used = (depot.publish() for _ in range(3))
    await depot.warm(gone, kept)
    await depot.cache.undeploy(gone)
    await depot.files.fetch(gone)
    async with depot.cache.lease(used):
        assert await depot.cache.sweep({kept.digest}) == 1

    assert [depot.files.folder_of(version.digest).exists() for version in (gone, kept, used)] == [False, True, True]


async def test_prefetch_counts_as_no_use(depot: Depot) -> None:
    """What nobody asked for makes room before what somebody did."""
    versions = [depot.publish() for _ in range(5)]
    await depot.warm(*versions[:4])
    await depot.cache.undeploy(versions[3])
    await depot.files.fetch(versions[4])
    os.utime(depot.files.folder_of(versions[4].digest), (1, 1))
    depot.files.clean()
    await depot.cache.prefetch(versions[4])

    await depot.warm(depot.publish())

    assert depot.observer.unloaded == [versions[3], versions[4]]


async def test_thousand_versions_leave_as_many_traces_as_there_is_room(depot: Depot) -> None:
    """What is kept in memory is bounded by the disk and the engine, not by the versions that were ever asked for."""
    folder = write_adapter(depot.root / "many", tiny_shape(), rank=1)
    template = depot.offer(folder)
    depot.limit_disk(template.size_bytes)
    for number in range(1000, 1100):
        version = replace(template, name=f"tenants/t{number}/bots/b/versions/1", engine_id=number, tenant=f"t{number}")
        depot.source.is_down = number % 2 == 0
        with suppress(Unavailable):
            await depot.warm(replace(version, digest=f"{number:064}") if number % 2 == 0 else version)
        await depot.pass_time(120)

    assert len(depot.cache.known()) <= 100 // 2 + 1
    await depot.pass_time(120)
    depot.source.is_down = True
    with suppress(Unavailable):
        await depot.warm(replace(template, digest="9" * 64, engine_id=9999))
    assert sum(known.state is AdapterState.ABSENT for known in depot.cache.known()) == 1


async def test_disk_that_takes_no_files_is_no_fault_of_the_version(depot: Depot) -> None:
    """A store that cannot be written says so, with the way out, and the version loads once it can be."""
    version = depot.publish()
    depot.store.rmdir()
    depot.store.write_text("a file where the store should be")
    with pytest.raises(Unavailable, match="free space or repair it"):
        await speak(depot, version)

    depot.store.unlink()

    assert await speak(depot, version) == {depot.voice(version)}


async def test_adapter_the_judge_refuses_never_reaches_the_engine(depot: Depot) -> None:
    """The verdict is remembered with its reason, and the engine is not asked."""
    folder = write_adapter(depot.root / "liar", tiny_shape())
    write_config(folder, {**read_config(folder), "r": 4})
    version = depot.offer(folder)

    with pytest.raises(AdapterRejected) as rejection:
        await speak(depot, version)
    with pytest.raises(FailedPrecondition, match="in quarantine") as refusal:
        await speak(depot, version)

    assert (rejection.value.reason, refusal.value.metadata["cause"]) == ("SHAPE_MISMATCH", "SHAPE_MISMATCH")
    assert (depot.backend.loads, depot.source.num_reads, len(depot.observer.failed)) == ([], 1, 1)


async def test_id_used_twice_is_refused(depot: Depot) -> None:
    """Two versions that claim one engine id cannot both be right, and the second is not served."""
    first, second = depot.publish(), depot.publish()
    await depot.warm(first)

    with pytest.raises(FailedPrecondition, match=r"names .* already"):
        await speak(depot, replace(second, engine_id=first.engine_id))


async def test_observer_hears_of_each_load_once(depot: Depot) -> None:
    """Loads are told when they are done, with the version; a lease of a resident one is no load."""
    version = depot.publish()

    await depot.warm(version, version)

    assert depot.observer.loaded == [version]


async def collect(stream: AsyncIterator[object]) -> list[str]:
    """Return the words of the rest of a stream."""
    return [chunk.text.strip() async for chunk in stream]  # type: ignore[attr-defined]  # chunks have text


def write_poison(folder: Path) -> Path:
    """Write an adapter that computes NaN."""
    write_adapter(folder, tiny_shape())
    tensors = random_tensors(tiny_shape(), 8, LINEAR_MODULES)
    write_weights(folder, {name: np.full_like(tensor, np.nan) for name, tensor in tensors.items()})
    return folder


def flip_bit(file: Path) -> None:
    """Damage the last byte of a file."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
