"""What a server knows of each adapter version: its state, who uses it, what went wrong with it.

Nothing here waits. The work between two states is `cache.py`'s. Of a version that is neither here nor failed lately nothing is
kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from adaptory.core.errors import FailedPrecondition, ServiceError
from serve_svc.adapters.life import AdapterLife, AdapterState, Step
from serve_svc.adapters.quarantine import Moment, Quarantine, QuarantinePolicy, TrackRecord
from serve_svc.engine.engine import EngineAdapter
from serve_svc.version import AdapterVersion

_OUT_OF_SERVICE = frozenset({AdapterState.DRAINING, AdapterState.QUARANTINED})


class AdapterObserver(Protocol):
    """Told what happens to adapters, for metrics and logs; its methods must not block or raise."""

    def adapter_loaded(self, version: AdapterVersion, seconds: float) -> None:
        """Report a load from first demand to resident, with its download and checks."""

    def adapter_failed(self, version: AdapterVersion, error: ServiceError) -> None:
        """Report a load that did not end well; the error may be lasting or passing."""

    def adapter_unloaded(self, version: AdapterVersion) -> None:
        """Report that the version made room for another, or was taken down."""

    def adapter_quarantined(self, version: AdapterVersion, quarantine: Quarantine) -> None:
        """Report that the version is refused from now on."""


@dataclass(frozen=True, slots=True)
class KnownAdapter:
    """A version this server knows something of, and the number of leases on it; `quarantine` says why it is refused."""

    version: AdapterVersion
    state: AdapterState
    num_leases: int
    quarantine: Quarantine | None


@dataclass(eq=False, slots=True)
class Entry:
    """One version in the book. `load` is under way, `is_named` while the engine may read its files at any time."""

    version: AdapterVersion
    adapter: EngineAdapter
    record: TrackRecord
    life: AdapterLife = field(default_factory=AdapterLife)
    load: "asyncio.Task[None] | None" = None
    quarantine: Quarantine | None = None
    is_named: bool = False

    @property
    def state(self) -> AdapterState:
        """How far it has come."""
        return self.life.state

    @property
    def needs_files(self) -> bool:
        """Tell whether somebody reads its files, or may."""
        return self.is_named or self.load is not None or self.life.num_leases > 0

    def require_in_service(self, now: Moment) -> None:
        """Raise what its callers are told once it is being taken down, or in quarantine."""
        if self.state is AdapterState.DRAINING:
            raise FailedPrecondition(
                f"{self.version.name} is being taken down; promote another version.",
                reason="VERSION_RETIRED",
                metadata={"version": self.version.name},
            )
        if self.quarantine is not None:
            raise self.quarantine.refusal(self.version.name, now)


class AdapterBook:
    """All versions that one server knows something of, by their engine ids."""

    def __init__(
        self,
        base_digest: str,
        observer: AdapterObserver,
        policy: QuarantinePolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty; take versions judged on this base alone. `clock` is monotonic and in seconds."""
        self._base_digest = base_digest
        self._observer = observer
        self._policy = policy
        self._clock = clock
        self._entries: dict[int, Entry] = {}

    def now(self) -> Moment:
        """Return this moment."""
        return Moment(self._clock(), datetime.now(UTC))

    def find(self, version: AdapterVersion) -> Entry | None:
        """Return the version's entry, if there is one."""
        entry = self._entries.get(version.engine_id)
        return entry if entry and entry.version == version else None

    def find_adapter(self, adapter: EngineAdapter) -> Entry | None:
        """Return the entry of what the engine calls so, if there is one."""
        entry = self._entries.get(adapter.engine_id)
        return entry if entry and entry.adapter == adapter else None

    def check(self, version: AdapterVersion) -> None:
        """Return when the version may be leased now. Raises as `admit`, and changes nothing."""
        if version.base_digest != self._base_digest:
            raise _other_base(version, self._base_digest)
        entry = self._entries.get(version.engine_id)
        if entry is None:
            return
        if entry.version != version:
            raise _id_reused(version)
        if not self._may_be_tried(entry):
            entry.require_in_service(self.now())

    def admit(self, version: AdapterVersion, folder: Path) -> Entry:
        """Return the entry of a version that is to be leased, its files in `folder`; one whose pause is over leaves quarantine.

        Raises:
            FailedPrecondition: OTHER_BASE, ENGINE_ID_REUSED, VERSION_RETIRED.
            FailedPrecondition, Unavailable: VERSION_QUARANTINED, for good or for a time.
        """
        self.check(version)
        entry = self._find_or_add(version, folder)
        if entry.quarantine is not None:
            self.end_quarantine(entry)
        return entry

    def retire(self, version: AdapterVersion, folder: Path) -> Entry | None:
        """Return the entry of a version that takes no lease from now on; None for one whose id was never its own."""
        entry = self._find_or_add(version, folder)
        if entry.version != version:
            return None
        if entry.state is not AdapterState.DRAINING:
            entry.life.take(Step.RETIRE)
        return entry

    def forget(self, entry: Entry) -> bool:
        """Strike out an entry that has drained; tell whether it was there, and nobody shares its files."""
        if self._entries.get(entry.version.engine_id) is not entry:
            return False  # two calls may take the same version down
        del self._entries[entry.version.engine_id]
        entry.life.take(Step.FORGET)
        return not any(other.version.digest == entry.version.digest for other in self._entries.values())

    def failed(self, entry: Entry, error: ServiceError) -> None:
        """Count a failure of the version, and refuse it from now on where it is one too many."""
        if entry.state not in _OUT_OF_SERVICE and (quarantine := entry.record.judge(error, self.now())):
            entry.quarantine = quarantine
            entry.life.take(Step.QUARANTINE)
            self._observer.adapter_quarantined(entry.version, quarantine)
        for other in tuple(self._entries.values()):  # failures of others may be old enough to be forgotten
            self.drop_if_blank(other)

    def end_quarantine(self, entry: Entry) -> None:
        """Let a version that nobody uses be tried again."""
        entry.life.take(Step.RELEASE)
        entry.quarantine = None

    def lost(self, resident: frozenset[int] = frozenset()) -> None:
        """Take note of what the engine holds, as far as it is less than it held: it was replaced by another, or is gone."""
        for engine_id, entry in self._entries.items():
            if entry.is_named and engine_id not in resident and entry.load is None:
                entry.is_named = False
                if entry.state is AdapterState.LOADED:
                    entry.life.take(Step.LOSE)

    def let_go(self, digest: str) -> bool:
        """Tell whether nobody needs the folder of the digest; then what is known of its bytes is forgotten with this call."""
        sharing = [entry for entry in self._entries.values() if entry.version.digest == digest]
        if any(entry.needs_files for entry in sharing):
            return False
        for entry in sharing:
            if entry.state is not AdapterState.ABSENT:
                entry.life.take(Step.DISCARD)
            self.drop_if_blank(entry)
        return True

    def drop_if_blank(self, entry: Entry) -> None:
        """Strike out an entry that says nothing."""
        is_blank = entry.state is AdapterState.ABSENT and not entry.needs_files and entry.record.is_clean(self.now())
        if is_blank and self._entries.get(entry.version.engine_id) is entry:
            del self._entries[entry.version.engine_id]

    def held(self, resident: frozenset[int]) -> list[Entry]:
        """Return the entries of these engine ids."""
        return [entry for engine_id in resident if (entry := self._entries.get(engine_id))]

    def __iter__(self) -> Iterator[Entry]:
        """Go through all entries as they are now."""
        return iter(tuple(self._entries.values()))

    def _may_be_tried(self, entry: Entry) -> bool:
        """Tell whether the pause of one in quarantine is over, and those who met the failure have gone."""
        if entry.quarantine is None or entry.state is not AdapterState.QUARANTINED or entry.needs_files:
            return False
        return entry.quarantine.is_over(self.now())

    def _find_or_add(self, version: AdapterVersion, folder: Path) -> Entry:
        entry = self._entries.get(version.engine_id)
        if entry is None:
            adapter = EngineAdapter(version.engine_id, version.engine_name, folder)
            entry = self._entries[version.engine_id] = Entry(version, adapter, TrackRecord(self._policy))
        return entry


def _other_base(version: AdapterVersion, served: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{version.name} was judged on base {version.base_digest}, this server runs base {served}; "
        "send the request to a server of that base, or train the bot again on this one.",
        reason="OTHER_BASE",
        metadata={"version": version.name, "version_base": version.base_digest, "server_base": served},
    )


def _id_reused(version: AdapterVersion) -> FailedPrecondition:
    # Whose id it is is not told: it may be another tenant's.
    return FailedPrecondition(
        f"{version.name} has engine id {version.engine_id}, which names another version already; "
        "ids are the registry's to give and are never used twice.",
        reason="ENGINE_ID_REUSED",
        metadata={"version": version.name, "engine_id": version.engine_id},
    )
