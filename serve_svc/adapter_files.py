"""Adapter folders on this machine's disk, named by their digest and never changed.

Owns download, verification and removal; which of them an engine holds is `adapters.py`, whether their content may be served
is `adaptory.core.adapter_check`.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaptory.core.adapter_check import ADAPTER_FILES, adapter_digest
from adaptory.core.errors import AdapterRejected, Corrupted, Unavailable
from serve_svc.version import AdapterVersion

_PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, slots=True)
class FileChunk:
    """The next bytes of one of an adapter's two files."""

    file_name: str
    data: bytes


class AdapterSource(Protocol):
    """Where adapters come from: the registry's stream or an object store."""

    def read(self, version: AdapterVersion) -> AsyncIterator[FileChunk]:
        """Stream both files, each in order; raises Unavailable when the source cannot answer now."""


class AdapterFiles:
    """Content-addressed folders below `root`, which belongs to this process alone."""

    def __init__(self, root: Path, source: AdapterSource) -> None:
        """Keep the absolute path: vLLM takes a relative one that is missing for the name of a repository on the hub."""
        self._root = root.resolve()
        self._source = source
        self._publishing = asyncio.Lock()

    def clean(self) -> None:
        """Remove what interrupted downloads left; to be called once, before the first fetch."""
        self._root.mkdir(parents=True, exist_ok=True)
        for leftover in self._root.glob(f"*{_PARTIAL_SUFFIX}"):
            shutil.rmtree(leftover)

    def folder_of(self, digest: str) -> Path:
        """Return where the adapter of this digest lives, whether it is there or not."""
        return self._root / digest

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
        except OSError as err:
            raise Unavailable(
                f"The disk of the adapter store refuses {version.name} ({err.strerror}); "
                "free space or repair it, then retry.",
                reason="ADAPTER_STORE_FAILED",
                metadata={"version": version.name},
                retry_after_s=10.0,
            ) from err
        return folder

    async def remove(self, digest: str) -> None:
        """Delete the folder; the caller knows that no engine can name it any more."""
        await asyncio.to_thread(shutil.rmtree, self.folder_of(digest), ignore_errors=True)

    async def _refill(self, folder: Path, version: AdapterVersion) -> None:
        aside = await asyncio.to_thread(self._make_aside, version.digest)
        try:
            await self._download(version, aside)
            async with self._publishing:  # two bots' versions may share a digest, and so the folder
                await asyncio.to_thread(_publish, aside, folder, version)
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
