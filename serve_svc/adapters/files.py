"""Adapter folders on this machine's disk, named by their digest and never changed.

Owns download, verification, removal, and when each was last used, which outlives the process as the folder's time of change. Which
of them an engine holds is `cache.py`, whether their content may be served is `adaptory.core.adapter_check`.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaptory.core.adapter_check import ADAPTER_FILES, adapter_digest
from adaptory.core.errors import AdapterRejected, Corrupted, Unavailable
from serve_svc.version import AdapterVersion

_PARTIAL_SUFFIX = ".partial"
# Uses are told to the disk no more often: an order to the minute is enough after a restart.
_STAMP_EVERY_S = 60.0

LetGo = Callable[[str], bool]
"""Asked before a digest's folder goes: True promises that nobody needs it, and takes note that it is gone with this call."""


@dataclass(frozen=True, slots=True)
class FileChunk:
    """The next bytes of one of an adapter's two files."""

    file_name: str
    data: bytes


class AdapterSource(Protocol):
    """Where adapters come from: the registry's stream or an object store."""

    def read(self, version: AdapterVersion) -> AsyncIterator[FileChunk]:
        """Stream both files, each in order; raises Unavailable when the source cannot answer now."""


@dataclass(slots=True)
class _Folder:
    num_bytes: int
    used_s: float
    stamped_s: float


class AdapterFiles:
    """Content-addressed folders below `root`, which belongs to this process alone."""

    def __init__(
        self,
        root: Path,
        source: AdapterSource,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Let `trim` keep `max_bytes`; None is no limit. `clock` is in seconds of the epoch, as the disk's times are.

        The path is made absolute: vLLM takes a relative one that is missing for the name of a repository on the hub.
        """
        self._root = root.resolve()
        self._source = source
        self._max_bytes = max_bytes
        self._clock = clock
        self._folders: dict[str, _Folder] = {}
        self._last_used_s = 0.0
        self._publishing = asyncio.Lock()
        self._removals = itertools.count(1)

    @property
    def num_bytes(self) -> int:
        """Bytes of all folders."""
        return sum(folder.num_bytes for folder in self._folders.values())

    @property
    def max_bytes(self) -> int | None:
        """Bytes that `trim` leaves; None is no limit."""
        return self._max_bytes

    def clean(self) -> None:
        """Remove what interrupted downloads left, and read what is there; to be called once, before the first fetch."""
        self._root.mkdir(parents=True, exist_ok=True)
        for entry in self._root.iterdir():
            if entry.name.endswith(_PARTIAL_SUFFIX):
                shutil.rmtree(entry)
            else:
                used_s = entry.stat().st_mtime
                self._folders[entry.name] = _Folder(_count_bytes(entry), used_s, used_s)
                self._last_used_s = max(self._last_used_s, used_s)

    def folder_of(self, digest: str) -> Path:
        """Return where the adapter of this digest lives, whether it is there or not."""
        return self._root / digest

    def touch(self, digest: str) -> None:
        """Take note that the folder was used now, after every use noted before."""
        folder = self._folders.get(digest)
        if folder is None:
            return
        # The clock may stand still or go back; the order of uses must not.
        self._last_used_s = folder.used_s = max(self._clock(), self._last_used_s + 1e-3)
        if folder.used_s - folder.stamped_s >= _STAMP_EVERY_S:
            folder.stamped_s = folder.used_s
            with suppress(OSError):  # a disk that takes no stamp costs a worse order after a restart
                os.utime(self.folder_of(digest), (folder.used_s, folder.used_s))

    def used_s(self, digest: str) -> float:
        """Return when the folder was last used, in seconds of the epoch; 0 when it is not there."""
        folder = self._folders.get(digest)
        return folder.used_s if folder else 0.0

    def recency(self) -> Mapping[str, float]:
        """Return every digest on disk with the second of its last use."""
        return {digest: folder.used_s for digest, folder in self._folders.items()}

    async def fetch(self, version: AdapterVersion) -> Path:
        """Return the adapter's folder after hashing every byte of it; downloads it where it is missing or damaged.

        Raises:
            Corrupted: The source's bytes are not those the registry names.
            Unavailable: The source cannot answer now, or the disk cannot take the files.
        """
        folder = self.folder_of(version.digest)
        try:
            if await asyncio.to_thread(_digest_of, folder) != version.digest:
                await self._refill(folder, version)
            elif version.digest not in self._folders:
                self._folders[version.digest] = _Folder(version.size_bytes, 0.0, 0.0)
        except OSError as err:
            raise self.failed(version, err) from err
        return folder

    def failed(self, version: AdapterVersion, error: OSError) -> Unavailable:
        """Return what callers are told when the disk did not serve."""
        return Unavailable(
            f"The disk of the adapter store refuses {version.name} ({error.strerror}); free space or repair it, then retry.",
            reason="ADAPTER_STORE_FAILED",
            metadata={"version": version.name},
            retry_after_s=10.0,
        )

    async def remove(self, digest: str) -> None:
        """Delete the folder; the caller knows that no engine can name it any more. It is out of the way at once."""
        await self._delete([self._move_aside(digest)])

    async def trim(self, let_go: LetGo) -> None:
        """Delete the folders used longest ago, as far as `let_go` lets them go, until the others fit the limit."""
        if self._max_bytes is None:
            return
        excess, aside = self.num_bytes - self._max_bytes, []
        for digest in sorted(self._folders, key=self.used_s) if excess > 0 else ():
            if excess > 0 and let_go(digest):
                excess -= self._folders[digest].num_bytes
                aside.append(self._move_aside(digest))
        await self._delete(aside)

    async def sweep(self, known: Collection[str], let_go: LetGo) -> int:
        """Delete the folders of digests that are not `known`, as far as `let_go` lets them go; return how many went."""
        strangers = [digest for digest in self._folders if digest not in known and let_go(digest)]
        await self._delete([self._move_aside(digest) for digest in strangers])
        return len(strangers)

    def _move_aside(self, digest: str) -> Path | None:
        """Make the folder absent without waiting: whoever looks from now on finds nothing, and may fetch it anew."""
        self._folders.pop(digest, None)
        aside = self._root / f"{digest}.{next(self._removals)}.gone{_PARTIAL_SUFFIX}"
        try:
            self.folder_of(digest).rename(aside)
        except OSError:
            return None  # it was not there, or cannot be moved: then it is found at the next start
        return aside

    async def _delete(self, folders: Iterable[Path | None]) -> None:
        for folder in folders:
            if folder is not None:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _refill(self, folder: Path, version: AdapterVersion) -> None:
        aside = await asyncio.to_thread(self._make_aside, version.digest)
        try:
            await self._download(version, aside)
            async with self._publishing:  # two bots' versions may share a digest, and so the folder
                await asyncio.to_thread(_publish, aside, folder, version)
            self._folders[version.digest] = _Folder(version.size_bytes, 0.0, 0.0)
            self.touch(version.digest)
        finally:
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)

    def _make_aside(self, digest: str) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{digest}.", suffix=_PARTIAL_SUFFIX, dir=self._root))

    async def _download(self, version: AdapterVersion, aside: Path) -> None:
        """Write the source's chunks below `aside`, refusing other names and more bytes than the registry announced."""
        num_bytes = 0
        async for chunk in self._source.read(version):
            num_bytes += len(chunk.data)
            if chunk.file_name not in ADAPTER_FILES or num_bytes > version.size_bytes:
                raise _corrupted(version, f"the download brought {num_bytes} bytes, the last for {chunk.file_name!r}")
            await asyncio.to_thread(_append, aside / chunk.file_name, chunk.data)


def _digest_of(folder: Path) -> str:
    """Return the folder's digest, or an empty string, which no digest equals, where it is missing or incomplete."""
    try:
        return adapter_digest(folder)
    except (AdapterRejected, FileNotFoundError):
        return ""


def _count_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*"))


def _append(file: Path, data: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(data)


def _publish(aside: Path, folder: Path, version: AdapterVersion) -> None:
    """Move a finished download into place, durable and whole; a damaged folder of that name makes way."""
    if (digest := _digest_of(aside)) != version.digest:
        raise _corrupted(version, f"the downloaded files have digest {digest or 'none, as one of the two is missing'}")
    if _digest_of(folder) == version.digest:
        return
    for name in ADAPTER_FILES:
        _sync(aside / name)
    _sync(aside)
    if folder.exists():
        damaged = aside.with_suffix(".damaged" + _PARTIAL_SUFFIX)
        folder.rename(damaged)
        shutil.rmtree(damaged)
    aside.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _corrupted(version: AdapterVersion, what: str) -> Corrupted:
    return Corrupted(
        f"{version.name} is registered with digest {version.digest} and {version.size_bytes} bytes, but {what}; "
        "register it again or roll back to another version.",
        metadata={"version": version.name, "digest": version.digest, "size_bytes": version.size_bytes},
    )
