"""The life of adapters in the engine: load once, keep while in use, make room for the next, take down cleanly.

Decides what is resident and when. Bytes on disk are `adapter_files.py`, the verdict on them is the judge it is given, the queue in
front is `admission.py`.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaptory.core.errors import AdapterRejected, Corrupted, FailedPrecondition, ServiceError, Unavailable
from serve_svc.adapter_files import AdapterFiles
from serve_svc.engine.engine import AdapterLoadFailed, Engine, EngineAdapter
from serve_svc.version import AdapterVersion

# What a version can never recover from: its bytes and its id stay what they are. Everything else may pass.
_LASTING_FAILURES = (AdapterRejected, AdapterLoadFailed, Corrupted)


class AdapterObserver(Protocol):
    """Told what happens to adapters, for metrics and logs; its methods must not block or raise."""

    def adapter_loaded(self, version: AdapterVersion, seconds: float) -> None:
        """Report a load from first demand to resident, with its download and checks."""

    def adapter_failed(self, version: AdapterVersion, error: ServiceError) -> None:
        """Report a load that did not end well; the error may be lasting or passing."""

    def adapter_unloaded(self, version: AdapterVersion) -> None:
        """Report that the version made room for another, or was taken down."""


@dataclass(frozen=True, slots=True)
class ServedBase:
    """The base the engine runs: its digest, and the judge of adapters made for it, which raises AdapterRejected."""

    digest: str
    judge: Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class ResidentAdapter:
    """An adapter in the engine and the number of leases on it."""

    version: AdapterVersion
    num_leases: int


@dataclass(eq=False, slots=True)
class _Entry:
    version: AdapterVersion
    adapter: EngineAdapter
    num_leases: int = 0
    last_used: int = 0
    load: "asyncio.Task[None] | None" = None
    failure: ServiceError | None = None
    is_retiring: bool = False


class AdapterCache:
    """At most `capacity` adapters resident in one engine; the least recently used idle one makes room.

    A version is loaded once however many requests want it, and the load goes on when they give up. Versions that failed for good are
    refused with the same error, and never offered to the engine again.
    """

    def __init__(
        self,
        engine: Engine,
        files: AdapterFiles,
        base: ServedBase,
        observer: AdapterObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing resident; whoever builds the cache closes it."""
        self._engine = engine
        self._files = files
        self._base = base
        self._observer = observer
        self._clock = clock
        self._entries: dict[int, _Entry] = {}
        self._ticks = itertools.count(1)
        # The engine does one load or unload at a time anyway; taking turns here lets each see how much room there is.
        self._engine_turn = asyncio.Lock()
        self._lease_returned = asyncio.Event()

    @asynccontextmanager
    async def lease(self, version: AdapterVersion) -> AsyncIterator[EngineAdapter]:
        """Keep the version resident while the block runs, loading it first where needed.

        Raises:
            FailedPrecondition: The version is of another base, being taken down, or its load failed for good before.
            AdapterRejected: The judge refuses its files.
            AdapterLoadFailed: The engine refuses it.
            Corrupted: Its bytes are not those that were registered.
            Unavailable: The source or the engine cannot answer now (EngineDead is one of these).
        """
        entry = self._admit(version)
        entry.num_leases += 1
        try:
            await self._make_resident(entry)
            yield entry.adapter
        finally:
            entry.num_leases -= 1
            entry.last_used = next(self._ticks)
            self._lease_returned.set()

    async def undeploy(self, version: AdapterVersion) -> None:
        """Take the version down: refuse new leases, wait for those in use, unload it, delete its files.

        The order matters: an engine that is asked to forget an adapter in use reads it from disk again, and dies if it is gone.
        """
        entry = self._entries.get(version.engine_id)
        if entry is None:
            entry = self._entries[version.engine_id] = self._new_entry(version)
        entry.is_retiring = True
        await self._drain(entry)
        async with self._engine_turn:
            await self._unload(entry)
            self._entries.pop(version.engine_id, None)  # two calls may take the same version down
            if not any(other.version.digest == version.digest for other in self._entries.values()):
                await self._files.remove(version.digest)

    async def restore(self) -> None:
        """Load again what a rebuilt engine has lost, the most recently used first; what fails is left to its next lease."""
        for entry in sorted(self._entries.values(), key=lambda entry: entry.last_used, reverse=True):
            if entry.failure is None and not entry.is_retiring:
                with suppress(ServiceError):
                    await self._make_resident(entry)

    async def close(self) -> None:
        """Give up the loads under way; the engine is stopped by its owner."""
        loads = [entry.load for entry in self._entries.values() if entry.load is not None]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def resident_versions(self) -> tuple[AdapterVersion, ...]:
        """Return what the engine holds now, by name."""
        resident = await self._engine.resident_adapters()
        held = (entry.version for engine_id, entry in self._entries.items() if engine_id in resident)
        return tuple(sorted(held, key=lambda version: version.name))

    async def residents(self) -> tuple[ResidentAdapter, ...]:
        """Return what the engine holds now and how many use it, the least recently used first."""
        resident = await self._engine.resident_adapters()
        held = [entry for engine_id, entry in self._entries.items() if engine_id in resident]
        held.sort(key=lambda entry: (entry.num_leases > 0, entry.last_used))
        return tuple(ResidentAdapter(entry.version, entry.num_leases) for entry in held)

    def _admit(self, version: AdapterVersion) -> _Entry:
        if version.base_digest != self._base.digest:
            raise FailedPrecondition(
                f"{version.name} was judged on base {version.base_digest}, this server runs base {self._base.digest}; "
                "send the request to a server of that base, or train the bot again on this one.",
                reason="OTHER_BASE",
                metadata={
                    "version": version.name,
                    "version_base": version.base_digest,
                    "server_base": self._base.digest,
                },
            )
        entry = self._entries.get(version.engine_id)
        if entry is None:
            entry = self._entries[version.engine_id] = self._new_entry(version)
        _refuse_other_version(entry.version, version)
        if entry.is_retiring:
            raise FailedPrecondition(
                f"{version.name} is being taken down; promote another version.",
                reason="VERSION_RETIRED",
                metadata={"version": version.name},
            )
        if entry.failure is not None:
            raise entry.failure.with_traceback(None)
        return entry

    def _new_entry(self, version: AdapterVersion) -> _Entry:
        folder = self._files.folder_of(version.digest)
        return _Entry(version, EngineAdapter(version.engine_id, version.engine_name, folder))

    async def _make_resident(self, entry: _Entry) -> None:
        """Wait until the engine holds the entry; joins a load under way. A cancelled waiter does not stop the load."""
        if entry.version.engine_id in await self._engine.resident_adapters():
            return
        if entry.load is None:
            entry.load = asyncio.create_task(self._load(entry), name=f"load {entry.version.name}")
            entry.load.add_done_callback(_retrieve_exception)
        await asyncio.shield(entry.load)

    async def _load(self, entry: _Entry) -> None:
        version = entry.version
        started_s = self._clock()
        try:
            folder = await self._files.fetch(version)
            await asyncio.to_thread(self._base.judge, folder)
            async with self._engine_turn:
                await self._make_room()
                # Hashed again right before the engine reads it: the folder may have been taken down while this load waited.
                await self._files.fetch(version)
                await self._engine.load_adapter(entry.adapter)
        except ServiceError as error:
            if isinstance(error, _LASTING_FAILURES):
                entry.failure = error
            self._observer.adapter_failed(version, error)
            raise
        finally:
            entry.load = None
        self._observer.adapter_loaded(version, self._clock() - started_s)

    async def _make_room(self) -> None:
        """Unload idle adapters until one more fits; waits for a lease to end while all are in use."""
        while len(resident := await self._engine.resident_adapters()) >= self._engine.max_cpu_loras:
            self._lease_returned.clear()
            idle = [entry for key, entry in self._entries.items() if key in resident and not entry.num_leases]
            if idle:
                await self._evict(min(idle, key=lambda entry: entry.last_used))
            else:
                await self._lease_returned.wait()

    async def _evict(self, entry: _Entry) -> None:
        await self._unload(entry)
        if not entry.num_leases:  # else somebody asked for it meanwhile, and loads it again after this turn
            self._entries.pop(entry.version.engine_id, None)

    async def _unload(self, entry: _Entry) -> None:
        engine_id = entry.version.engine_id
        try:
            if engine_id not in await self._engine.resident_adapters():
                return
            await self._engine.unload_adapter(engine_id)
        except Unavailable:
            return  # an engine that is gone has forgotten the adapter, and the next one does not know it
        self._observer.adapter_unloaded(entry.version)

    async def _drain(self, entry: _Entry) -> None:
        while entry.num_leases:
            self._lease_returned.clear()
            await self._lease_returned.wait()
        if entry.load is not None:  # its callers gave up, the engine did not
            await asyncio.wait([entry.load])


def _refuse_other_version(known: AdapterVersion, version: AdapterVersion) -> None:
    if known != version:
        raise FailedPrecondition(
            f"{version.name} has engine id {version.engine_id}, which names {known.name} already; "
            "ids are the registry's to give and are never used twice.",
            reason="ENGINE_ID_REUSED",
            metadata={"version": version.name, "engine_id": version.engine_id, "owner": known.name},
        )


def _retrieve_exception(load: "asyncio.Task[None]") -> None:
    """Mark the failure as seen: those who wait raise it, and when all of them gave up nobody else will."""
    if not load.cancelled():
        load.exception()
