"""The life of adapters: what is loaded when, what makes room, what goes wrong, and what stays promised meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from adaptory.core.errors import AdapterRejected, Corrupted, FailedPrecondition, Unavailable
from serve_svc.adapter_files import AdapterFiles
from serve_svc.adapters import AdapterCache, ServedBase
from serve_svc.engine.engine import EngineAdapter, EngineRequest, Sampling
from serve_svc.version import AdapterVersion
from tests.adapters import read_config, tiny_shape, write_adapter, write_config
from tests.fakes.adapters import FolderSource, RecordingObserver
from tests.fakes.clock import settle
from tests.fakes.engine import fake_engine, voice_of

BASE_DIGEST = "b" * 64


class Depot:
    """A cache over a fake engine, and a source that offers the adapters a test has published."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine, self.backend = fake_engine()
        self.source = FolderSource({})
        self.observer = RecordingObserver()
        self.store = root / "store"
        self.files = AdapterFiles(self.store, self.source)
        self.files.clean()
        judge = partial(check_adapter, base=tiny_shape(), limits=AdapterLimits())
        self.cache = AdapterCache(self.engine, self.files, ServedBase(BASE_DIGEST, judge), self.observer)
        self._num_published = 0

    def publish(self, tenant: str = "acme", *, seed: int | None = None) -> AdapterVersion:
        """Offer a good adapter of the tenant as its next version; equal seeds make equal files."""
        self._num_published += 1
        folder = self.root / f"source-{self._num_published}"
        write_adapter(folder, tiny_shape(), seed=self._num_published if seed is None else seed)
        return self.offer(folder, tenant)

    def offer(self, folder: Path, tenant: str = "acme") -> AdapterVersion:
        """Offer whatever is in the folder as a version."""
        number = len(self.source.folders) + self._num_published * 100
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
    yield depot
    depot.backend.release_loads()
    await depot.cache.close()


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
    assert set(await depot.cache.resident_versions()) == {versions[0], *versions[2:]}


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
    """A source with other bytes than registered is asked once; the refusal stays, and other versions do not notice."""
    former, version = depot.publish(), depot.publish()
    depot.source.folders[version.digest] = depot.source.folders[former.digest]
    await depot.warm(former)

    for _ in range(2):
        with pytest.raises(Corrupted, match=version.digest):
            await speak(depot, version)

    assert depot.source.num_reads == 2
    assert await speak(depot, former) == {depot.voice(former)}


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
    """Not to reach the registry is no fault of the version: the next request tries again."""
    version = depot.publish()
    depot.source.is_down = True
    with pytest.raises(Unavailable):
        await speak(depot, version)

    depot.source.is_down = False

    assert await speak(depot, version) == {depot.voice(version)}


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

    reasons = []
    for _ in range(2):
        with pytest.raises(AdapterRejected) as rejection:
            await speak(depot, version)
        reasons.append(rejection.value.reason)

    assert reasons == ["SHAPE_MISMATCH"] * 2
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


def flip_bit(file: Path) -> None:
    """Damage the last byte of a file."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
