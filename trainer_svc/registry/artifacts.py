"""Where bytes are kept: by their SHA-256, written once, checked when written and whenever read.

Owns blobs only; which dataset or version a blob belongs to is the database's. Everything here blocks: call it in a thread.
"""

import hashlib
import io
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from adaptory.core.errors import Corrupted

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in the store: SHA-256, lower-case hex, and size."""

    digest: str
    size_bytes: int


class ArtifactStore(Protocol):
    """Content-addressed bytes. Every implementation passes `tests/contracts/test_artifact_store.py`."""

    def put(self, source: BinaryIO) -> Blob:
        """Keep all bytes of `source` and return their address; on return they have been read back and are on stable storage.

        Raises Corrupted when what was read back is not what was written, OSError when the storage refuses; nothing is kept then.
        """

    def open(self, digest: str) -> BinaryIO:
        """Open a blob to read from its beginning to its end.

        Raises Corrupted when it is gone, and the read that reaches the end raises it when the bytes are not those put.
        """


class LocalArtifacts:
    """An artifact store in a folder: `sha256/ab/abcd…`. Blobs appear whole: written aside, flushed, read back, renamed."""

    def __init__(self, root: Path) -> None:
        """Take the folder, which is made when absent."""
        self._blobs = root / "sha256"
        self._aside = root / "aside"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._aside.mkdir(exist_ok=True)

    def put(self, source: BinaryIO) -> Blob:
        """Keep bytes, as `ArtifactStore` says."""
        aside = self._aside / secrets.token_hex(8)
        try:
            blob = _write(source, aside)
            _verify(aside, blob.digest)
            path = self._path_of(blob.digest)
            path.parent.mkdir(exist_ok=True)
            # Replacing is right also when the blob is there: the new bytes are known to be good, the old ones are not.
            aside.replace(path)
            _flush_folder(path.parent)
            _flush_folder(self._blobs)
        finally:
            aside.unlink(missing_ok=True)
        return blob

    def open(self, digest: str) -> BinaryIO:
        """Open a blob, as `ArtifactStore` says."""
        try:
            file = self._path_of(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            message = f"The blob {digest} is not in the store any more; restore it from a backup, or make it again."
            raise Corrupted(message, reason="BLOB_MISSING", metadata={"digest": digest}) from error
        return io.BufferedReader(_VerifyingReader(file, digest), buffer_size=CHUNK_BYTES)

    def remove_leftovers(self) -> None:
        """Delete what a killed process left half written; call it before anything is put."""
        for path in self._aside.iterdir():
            path.unlink()

    def _path_of(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest


class _VerifyingReader(io.RawIOBase):
    """Hashes what it passes on, and raises Corrupted in place of the end of file when the sum is another."""

    def __init__(self, file: io.FileIO, digest: str) -> None:
        super().__init__()
        self._file = file
        self._digest = digest
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        num_read = self._file.readinto(buffer) or 0
        if num_read:
            self._hash.update(memoryview(buffer)[:num_read])
        elif self._hash.hexdigest() != self._digest:
            raise _corrupted(self._digest, self._hash.hexdigest())
        return num_read

    def close(self) -> None:
        self._file.close()
        super().close()


def _write(source: BinaryIO, path: Path) -> Blob:
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            size_bytes += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Blob(digest.hexdigest(), size_bytes)


def _verify(path: Path, digest: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise _corrupted(digest, found)


def _corrupted(digest: str, found: str) -> Corrupted:
    message = (
        f"The blob {digest} reads as {found}: its bytes changed at rest. Restore it from a backup, or make it again."
    )
    return Corrupted(message, metadata={"digest": digest, "found": found})


def _flush_folder(folder: Path) -> None:
    # A rename is on stable storage only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
