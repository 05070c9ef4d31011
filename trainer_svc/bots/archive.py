"""Reads the members of a tar archive, packed with gzip or not, that nobody vouches for, without unpacking it to disk.

The standard library's `tarfile` reads the headers, over a stream that says no to it: never backwards, never more than a header may
take, never beyond the caps. So names of gigabytes (GNU and PAX headers are read whole), sparse maps without an end, negative sizes
and decompression bombs end in a refusal, and a truncated archive does, too, which `tarfile` alone would take for a short one.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from trainer_svc.bots.code_file import CodeLimits
from trainer_svc.bots.problem import LineProblem

_BLOCK_BYTES = 512
_CHUNK_BYTES = 64 * 1024
# A path of 1,024 characters and the attributes that tar programs add take a few kilobytes.
_MAX_HEADER_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
# Below it a ratio says little: the first megabytes of an honest archive may be one repeated file.
_MIN_RATIO_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive; `content` is None for what is no plain file, or is larger than the limit.

    `begin` is where its content begins in the archive, unpacked.
    """

    number: int
    path: str
    is_file: bool
    is_folder: bool
    size_bytes: int
    begin: int
    content: bytes | None


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_members(file: BinaryIO, limits: CodeLimits) -> Iterator[Member]:
    """Yield the members of an archive in their order, numbered from 1; at most one file's content is in memory.

    Raises LineProblem: ARCHIVE_INVALID (no archive, truncated, or made wrongly), ARCHIVE_TOO_LARGE (its caps).
    """
    file.seek(0)
    is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    stream = _Stream(gzip.GzipFile(fileobj=file) if is_packed else file, file, limits)
    try:
        yield from _read_members(stream, limits)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _invalid("it is damaged or cut off, or neither tar nor tar.gz") from error
    except (ValueError, OverflowError, IndexError) as error:
        # What the library lets through of headers that make no sense.
        raise _invalid("a header in it makes no sense") from error


def _read_members(stream: "_Stream", limits: CodeLimits) -> Iterator[Member]:
    archive = tarfile.TarFile(fileobj=stream, mode="r", errors="surrogateescape")  # type: ignore[arg-type]  # reads, seeks, tells
    number = 0
    while True:
        # The library reads the first header when it opens the archive.
        info = archive.next()
        if info is None:
            break
        # It would keep every header it has read, and every attribute of a global one.
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile's own, by its documentation
        archive.pax_headers = {}
        number += 1
        if number > limits.max_members:
            raise _too_large(f"has more than {limits.max_members} members")
        yield _read_member(stream, info, number, limits)
        stream.begin_header()
    stream.check_end()


def _read_member(stream: "_Stream", info: tarfile.TarInfo, number: int, limits: CodeLimits) -> Member:
    if info.size < 0:
        raise _invalid("a header in it makes no sense")
    is_file = info.isreg() and not info.issparse()
    content = None
    if is_file and info.size <= limits.max_file_bytes:
        stream.seek(info.offset_data)
        content = stream.read_content(info.size)
    return Member(number, info.name, is_file, info.isdir(), info.size, info.offset_data, content)


class _Stream:
    """The unpacked bytes of an archive: forwards only, counted, with a cap on what headers may read."""

    def __init__(self, source: _Readable, packed: BinaryIO, limits: CodeLimits) -> None:
        self._source = source
        self._packed = packed
        self._limits = limits
        self._position = 0
        self._header_bytes = 0
        self._last_block = b""

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip to a later position."""
        if position < self._position:
            raise _invalid("a header in it makes no sense")
        while self._position < position and self._take(min(position - self._position, _CHUNK_BYTES)):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        """Return bytes of a header."""
        self._header_bytes += size
        if not 0 <= self._header_bytes <= _MAX_HEADER_BYTES:
            raise _invalid(f"a header in it is larger than {_MAX_HEADER_BYTES} bytes")
        return self._take_all(size)

    def read_content(self, size: int) -> bytes:
        """Return the bytes of a file. Raises EOFError where there are fewer."""
        content = self._take_all(size)
        if len(content) < size:
            raise EOFError
        return content

    def begin_header(self) -> None:
        """Allow as much for the next header as for the last one."""
        self._header_bytes = 0

    def check_end(self) -> None:
        """Make sure that the archive ended with its mark, a block of zeros, and that nothing but zeros follows."""
        if self._last_block.strip(b"\0") or len(self._last_block) < _BLOCK_BYTES:
            raise _invalid("it is damaged or cut off: its end is missing")
        while rest := self._take(_CHUNK_BYTES):
            if rest.strip(b"\0"):
                raise _invalid("it goes on behind its end; write one archive")

    def _take_all(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size and (piece := self._take(min(size - len(taken), _CHUNK_BYTES))):
            taken += piece
        self._last_block = bytes(taken[-_BLOCK_BYTES:])
        return bytes(taken)

    def _take(self, size: int) -> bytes:
        taken = self._source.read(size)
        self._position += len(taken)
        if self._position > self._limits.max_unpacked_bytes:
            raise _too_large(f"unpacks to more than {self._limits.max_unpacked_bytes} bytes")
        if self._position > max(_MIN_RATIO_BYTES, self._limits.max_ratio * self._packed.tell()):
            raise _too_large(f"unpacks to more than {self._limits.max_ratio} times its own size")
        return taken


def _invalid(problem: str) -> LineProblem:
    return LineProblem("ARCHIVE_INVALID", f"the archive cannot be read to its end: {problem}")


def _too_large(problem: str) -> LineProblem:
    return LineProblem("ARCHIVE_TOO_LARGE", f"the archive {problem}; leave out what is no source code")
