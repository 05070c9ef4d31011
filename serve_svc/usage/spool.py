"""Keeps on disk what was counted until the registry has taken it: one file of lines, each with its checksum.

A line adds what was used, sets some of it apart as a numbered report, or says that a report was taken. The number and what it stands
for are on disk before a report is sent, so after a crash it comes again with the same records, and the registry counts it once.
However long the registry is away, no more is kept than two records for each version and day: the file is rewritten as it grows.
"""

import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import VersionName
from adaptory.core.usage import UsageCounts, UsageKey, add_usage

log = structlog.get_logger()

# What the registry takes at once.
_MAX_RECORDS = 2_000
# A smaller file is not worth rewriting.
_COMPACT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Records that the registry is to count once, by server and sequence."""

    server: str
    sequence: int
    usage: Mapping[UsageKey, UsageCounts]


@dataclass(slots=True)
class _Kept:
    """What the lines of a file amount to: `report` is the one on its way, `usage` waits for the next."""

    server: str
    last_sequence: int = 0
    report: UsageReport | None = None
    usage: dict[UsageKey, UsageCounts] = field(default_factory=dict)


class UsageSpool:
    """The file. Its methods block, and one thread at a time may call them.

    What they are given is never lost while the process lives: a disk that refuses raises OSError, and the next call writes it all.
    """

    def __init__(self, path: Path, compact_bytes: int = _COMPACT_BYTES) -> None:
        """Keep the path; the file may be absent. It is rewritten where it is larger than `compact_bytes`, and doubled since."""
        self._path = path
        self._kept = _Kept(_make_server_id())
        self._num_bytes = 0
        self._compact_bytes = compact_bytes
        self._compact_at_bytes = compact_bytes
        self._is_whole = False

    @property
    def unreported(self) -> Mapping[UsageKey, UsageCounts]:
        """All that no report was taken of."""
        usage = dict(self._kept.usage)
        if self._kept.report:
            add_usage(usage, self._kept.report.usage)
        return usage

    def load(self) -> None:
        """Take up what an earlier run left; damaged lines are left out and logged. Raises InvalidRequest for an unreadable file."""
        try:
            *lines, torn = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            sentence = f"{self._path} cannot be read, and has what tenants used: {error.strerror}"
            raise InvalidRequest.of_field("state_dir", sentence) from error
        entries = [_parse_line(line) for line in (lines if not torn else [*lines, torn])]
        if None in entries:
            log.error("usage_lines_damaged", file=str(self._path), num_damaged=entries.count(None))
        for entry in entries:
            if entry is not None:
                self._apply(entry)

    def keep(self, usage: Mapping[UsageKey, UsageCounts]) -> None:
        """Add records. Raises OSError when they are in memory only."""
        self._do({"used": _dump(usage)}, is_urgent=True)

    def seal(self) -> UsageReport | None:
        """Return the report that is on its way, or else the next one, or None when there is nothing to tell.

        Raises OSError while it is not safely on disk, and so must not be sent.
        """
        kept = self._kept
        if kept.report is None and kept.usage:
            records = dict(islice(kept.usage.items(), _MAX_RECORDS))
            self._do({"report": kept.last_sequence + 1, "usage": _dump(records)}, is_urgent=True)
        elif kept.report is not None and not self._is_whole:
            self._rewrite()
        return kept.report

    def settle(self, report: UsageReport) -> None:
        """Forget a report that was taken. Where a crash undoes that, it is sent again and counted once. Raises OSError as `keep`."""
        self._do({"taken": report.sequence}, is_urgent=False)

    def set_aside(self, report: UsageReport) -> Path:
        """Keep a report that the registry will never take in a file of its own, and return that; it is still to be settled.

        Raises OSError while it is not safely on disk. A crash before it is settled may have it there twice, under one number.
        """
        refused = self._path.with_name(f"{self._path.name}.refused")
        entry = {"server": report.server, "report": report.sequence, "usage": _dump(report.usage)}
        # For the owner only, as the spool.
        with os.fdopen(os.open(refused, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(_make_line(entry))
            file.flush()
            os.fsync(file.fileno())
        return refused

    def rename_server(self) -> None:
        """Report as another server from now on, since this one's state has a twin. Raises OSError as `keep`."""
        self._kept = _Kept(_make_server_id(), usage=dict(self.unreported))
        self._is_whole = False
        self._rewrite()

    def _do(self, entry: Mapping[str, Any], *, is_urgent: bool) -> None:
        """Apply an entry, and write it; an urgent one outlives a power cut."""
        self._apply(entry)
        if not self._is_whole or self._num_bytes > self._compact_at_bytes:
            self._rewrite()
            return
        self._is_whole = False
        with self._path.open("ab") as file:
            self._num_bytes += file.write(_make_line(entry))
            file.flush()
            if is_urgent:
                os.fsync(file.fileno())
        self._is_whole = True

    def _apply(self, entry: Mapping[str, Any]) -> None:
        kept = self._kept
        match entry:
            case {"server": str(server), "last_sequence": int(sequence)}:
                self._kept = _Kept(server, sequence)
            case {"used": list(records)}:
                add_usage(kept.usage, _parse(records))
            case {"report": int(sequence), "usage": list(records)}:
                kept.report = UsageReport(kept.server, sequence, _parse(records))
                kept.last_sequence = sequence
                for key in kept.report.usage:
                    kept.usage.pop(key, None)
            case {"taken": int(sequence)}:
                if kept.report and kept.report.sequence == sequence:
                    kept.report = None

    def _rewrite(self) -> None:
        """Replace the file by one of as few lines as can be: whoever reads it finds the old one or the new, after a power cut too."""
        aside = self._path.with_name(f"{self._path.name}.part")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # For the owner only: it names tenants.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            num_bytes = file.write(b"".join(map(_make_line, self._entries())))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._is_whole = True
        self._num_bytes = num_bytes
        self._compact_at_bytes = max(self._compact_bytes, 2 * num_bytes)

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        kept = self._kept
        yield {"server": kept.server, "last_sequence": kept.last_sequence}
        if kept.report:
            yield {"report": kept.report.sequence, "usage": _dump(kept.report.usage)}
        if kept.usage:
            yield {"used": _dump(kept.usage)}


def _make_server_id() -> str:
    return secrets.token_hex(16)


def _make_line(entry: Mapping[str, Any]) -> bytes:
    body = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _parse_line(line: bytes) -> Mapping[str, Any] | None:
    """Return the entry of a line, None where it is damaged or was not written to its end."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    entry: Mapping[str, Any] = json.loads(body)
    return entry


def _dump(usage: Mapping[UsageKey, UsageCounts]) -> list[list[object]]:
    return [[str(key.version), key.day, *astuple(counts)] for key, counts in usage.items()]


def _parse(records: list[list[Any]]) -> dict[UsageKey, UsageCounts]:
    return {
        UsageKey(VersionName.parse(version, field="version"), day): UsageCounts(*counts)
        for version, day, *counts in records
    }
