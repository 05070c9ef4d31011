"""The life of adapters in the engine: load once, keep while in use, make room for the next, take down cleanly.

Decides what is resident and when. What is known of each version is `book.py`, its states `life.py`, when it is
refused `quarantine.py`; bytes on disk are `files.py`, their way to the engine `loading.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from adaptory.core.errors import FailedPrecondition, ServiceError, Unavailable
from serve_svc.adapters.book import AdapterBook, AdapterObserver, Entry, KnownAdapter
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.life import AdapterState, Step
from serve_svc.adapters.loading import AdapterLoader, Patience, ServedBase
from serve_svc.adapters.quarantine import Moment, Quarantine, QuarantinePolicy
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import Engine, EngineAdapter
from serve_svc.version import AdapterVersion


@dataclass(frozen=True, slots=True)
class LifePolicy:
    """How failures are met, and the monotonic clock, in seconds, that they are timed by."""

    quarantine: QuarantinePolicy = field(default_factory=QuarantinePolicy)
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], float] = time.monotonic


class AdapterCache:
    """At most `max_cpu_loras` adapters resident in one engine; the least recently used idle one makes room.

    A version is loaded once however many requests want it, and the load goes on when they give up.
    """

    def __init__(
        self,
        engine: Engine,
        files: AdapterFiles,
        base: ServedBase,
        observer: AdapterObserver,
        policy: LifePolicy | None = None,
    ) -> None:
        """Start with nothing resident; whoever builds the cache closes it."""
        policy = policy or LifePolicy()
        self._engine = engine
        self._files = files
        self._observer = observer
        self._clock = policy.clock
        self._loader = AdapterLoader(files, base, policy.patience)
        self._book = AdapterBook(base.digest, observer, policy.quarantine, policy.clock)
        # The engine does one load or unload at a time anyway; taking turns here lets each see how much room there is.
        self._engine_turn = asyncio.Lock()
        self._lease_returned = asyncio.Event()

    def check(self, version: AdapterVersion) -> None:
        """Return when a lease may be tried now; raises what a lease would raise at once."""
        self._book.check(version)

    @asynccontextmanager
    async def lease(self, version: AdapterVersion) -> AsyncIterator[EngineAdapter]:
        """Keep the version resident while the block runs, loading it first where needed.

        A block that ends with OutputCorrupted of this adapter puts it in quarantine.

        Raises:
            FailedPrecondition: The version is of another base, or being taken down (VERSION_RETIRED).
            FailedPrecondition, Unavailable: VERSION_QUARANTINED, for good or for a time.
            AdapterRejected: The judge refuses its files.
            AdapterLoadFailed: The engine refuses it.
            Corrupted: Its bytes are not those that were registered.
            NotFound: The source does not know it.
            Unavailable: The source or the engine cannot answer now (EngineDead is one of these).
        """
        entry = self._admit(version)
        try:
            with entry.life.lease():
                await self._make_resident(entry)
                yield entry.adapter
        except OutputCorrupted as error:
            self.suspect(error)
            raise
        finally:
            self._files.touch(version.digest)
            self._give_back(entry)

    def suspect(self, error: ServiceError) -> None:
        """Put the adapter that an OutputCorrupted names in quarantine; of other errors nobody is suspected here."""
        if isinstance(error, OutputCorrupted) and error.adapter and (entry := self._book.find_adapter(error.adapter)):
            self._book.failed(entry, error)

    async def prefetch(self, version: AdapterVersion) -> None:
        """Load the version before it is asked for, which counts as no use. Raises as `lease`."""
        entry = self._admit(version)
        try:
            with entry.life.lease():
                await self._make_resident(entry)
        finally:
            self._give_back(entry)

    async def undeploy(self, version: AdapterVersion) -> None:
        """Take the version down: refuse new leases, wait for those in use, unload it, delete its files.

        The order matters: an engine that is asked to forget an adapter in use reads it from disk again, and dies if it is gone.
        """
        entry = self._book.retire(version, self._files.folder_of(version.digest))
        if entry is None:
            return
        await self._drain(entry)
        async with self._engine_turn:
            await self._unload(entry)
            if self._book.forget(entry):
                await self._files.remove(version.digest)

    async def release(self, version: AdapterVersion) -> Quarantine | None:
        """Let a version in quarantine be tried again, and forget its failures; return why it was there, None when it was not.

        Raises FailedPrecondition, ENGINE_ID_SPENT, for one that the engine refused.
        """
        entry = self._book.find(version)
        if entry is None or (quarantine := entry.quarantine) is None:
            return None
        if not quarantine.is_releasable:
            raise _spent(version, quarantine)
        await self._drain(entry)
        async with self._engine_turn:
            await self._unload(entry)
            if entry.state is AdapterState.QUARANTINED:  # it may have been retired, or released by another call
                entry.record.clear()
                self._book.end_quarantine(entry)
                self._book.drop_if_blank(entry)
        return quarantine

    async def sweep(self, digests: Collection[str]) -> int:
        """Delete files of digests that are not among these, left by versions that went while nobody looked; return how many."""
        return await self._files.sweep(digests, self._book.let_go)

    def engine_lost(self) -> None:
        """Take note that the engine is gone, with every adapter in it."""
        self._book.lost()

    async def close(self) -> None:
        """Give up the loads under way; the engine is stopped by its owner."""
        loads = [entry.load for entry in self._book if entry.load is not None]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def residents(self) -> tuple[KnownAdapter, ...]:
        """Return what the engine holds now and how many use it, the least recently used first. Raises EngineDead."""
        held = self._book.held(await self._resident_ids())
        held.sort(key=lambda entry: (entry.life.num_leases > 0, self._used_s(entry)))
        return tuple(map(_describe, held))

    async def is_full(self) -> bool:
        """Tell whether the next load needs another adapter to go. Raises EngineDead."""
        return len(await self._resident_ids()) >= self._engine.max_cpu_loras

    @property
    def disk_bytes(self) -> int:
        """Bytes of adapters on disk."""
        return self._files.num_bytes

    def now(self) -> Moment:
        """Return this moment, on the clock that quarantines are timed by."""
        return self._book.now()

    def known(self) -> tuple[KnownAdapter, ...]:
        """Return every version this server knows something of, by name."""
        return tuple(map(_describe, sorted(self._book, key=lambda entry: entry.version.name)))

    def count(self, state: AdapterState) -> int:
        """Return how many versions are in the state; of those that are absent, how many are not forgotten yet."""
        return sum(entry.state is state for entry in self._book)

    def recency(self) -> Mapping[str, float]:
        """Return the digests on disk with the second of their last use, uses of earlier processes among them."""
        return self._files.recency()

    def _admit(self, version: AdapterVersion) -> Entry:
        return self._book.admit(version, self._files.folder_of(version.digest))

    def _give_back(self, entry: Entry) -> None:
        self._book.drop_if_blank(entry)
        self._lease_returned.set()

    async def _make_resident(self, entry: Entry) -> None:
        """Wait until the engine holds the entry; joins a load under way. A cancelled waiter does not stop the load."""
        if entry.version.engine_id not in await self._resident_ids():
            if entry.load is None:
                entry.load = asyncio.create_task(self._load(entry), name=f"load {entry.version.name}")
                entry.load.add_done_callback(_retrieve_exception)
            await asyncio.shield(entry.load)
        if entry.quarantine is not None:  # put there meanwhile, by a stream that began before
            raise entry.quarantine.refusal(entry.version.name, self._book.now())

    async def _load(self, entry: Entry) -> None:
        started_s = self._clock()
        try:
            if entry.state is not AdapterState.VERIFIED:
                await self._verify(entry)
            async with self._engine_turn:
                await self._make_room()
                # Hashed right before the engine reads it: the turn may have been long in coming.
                await self._fetch(entry)
                await self._offer(entry)
        except ServiceError as error:
            self._observer.adapter_failed(entry.version, error)
            self._book.failed(entry, error)
            raise
        finally:
            entry.load = None
            self._book.drop_if_blank(entry)
        self._observer.adapter_loaded(entry.version, self._clock() - started_s)

    async def _verify(self, entry: Entry) -> None:
        await self._fetch(entry)
        await self._files.trim(self._book.let_go)
        await self._loader.judge(entry.version, entry.adapter.path)
        entry.require_in_service(self._book.now())
        entry.life.take(Step.VERIFY)

    async def _fetch(self, entry: Entry) -> None:
        await self._loader.fetch(entry.version)
        entry.require_in_service(self._book.now())
        entry.life.take(Step.FETCH)

    async def _offer(self, entry: Entry) -> None:
        """Have the engine load it, which may read the files until its call has ended, well or not."""
        entry.is_named = True
        try:
            await self._engine.load_adapter(entry.adapter)
        except Exception:
            entry.is_named = False
            raise
        entry.life.take(Step.LOAD)
        entry.record.clear()

    async def _make_room(self) -> None:
        """Unload idle adapters until one more fits; waits for a lease to end while all are in use."""
        while len(resident := await self._resident_ids()) >= self._engine.max_cpu_loras:
            self._lease_returned.clear()
            idle = [entry for entry in self._book.held(resident) if not entry.life.num_leases]
            if idle:
                # What is in quarantine answers nobody.
                await self._unload(min(idle, key=lambda entry: (entry.quarantine is None, self._used_s(entry))))
            else:
                await self._lease_returned.wait()

    async def _unload(self, entry: Entry) -> None:
        """Take an adapter out of the engine, if it is there and nobody has leased it meanwhile."""
        engine_id = entry.version.engine_id
        try:
            if engine_id not in await self._resident_ids() or entry.life.num_leases:
                return
            entry.life.take(Step.UNLOAD)  # before the call: who leases it from now on must load it
            await self._engine.unload_adapter(engine_id)
        except Unavailable:
            return  # an engine that is gone has forgotten the adapter, and the next one does not know it
        entry.is_named = False
        self._observer.adapter_unloaded(entry.version)

    async def _resident_ids(self) -> frozenset[int]:
        """Ask the engine what it holds; the book follows. Raises EngineDead."""
        resident = await self._engine.resident_adapters()
        self._book.lost(resident)
        return resident

    async def _drain(self, entry: Entry) -> None:
        while entry.life.num_leases:
            self._lease_returned.clear()
            await self._lease_returned.wait()
        if entry.load is not None:  # its callers gave up, the engine did not
            await asyncio.wait([entry.load])

    def _used_s(self, entry: Entry) -> float:
        return self._files.used_s(entry.version.digest)


def _describe(entry: Entry) -> KnownAdapter:
    return KnownAdapter(entry.version, entry.state, entry.life.num_leases, entry.quarantine)


def _spent(version: AdapterVersion, quarantine: Quarantine) -> FailedPrecondition:
    return FailedPrecondition(
        f"{version.name} stays in quarantine: what the engine refused once ({quarantine.cause.message}) is never offered to it again "
        "under the same id. Register the adapter as a new version.",
        reason="ENGINE_ID_SPENT",
        metadata={"version": version.name, "engine_id": version.engine_id},
    )


def _retrieve_exception(load: "asyncio.Task[None]") -> None:
    """Mark the failure as seen: those who wait raise it, and when all of them gave up nobody else will."""
    if not load.cancelled():
        load.exception()
