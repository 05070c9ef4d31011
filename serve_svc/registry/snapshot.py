"""Keeps the last routing table on disk, so that a server starts and serves while the registry is down."""

import asyncio
import hashlib
import os
import secrets
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1 import serving_pb2
from serve_svc.registry.convert import dump_table, parse_update
from serve_svc.routing import NOTHING_KNOWN, RoutingTable

log = structlog.get_logger()


class SnapshotFile:
    """One file: the SHA-256 of the rest in hex, a line end, and a ServingUpdate. Its methods block."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file may be absent."""
        self._path = path

    def load(self) -> RoutingTable:
        """Return the table, or NOTHING_KNOWN when there is no file or it is damaged: the registry sends another."""
        try:
            checksum, _, body = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return NOTHING_KNOWN
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            log.error("snapshot_ignored", file=str(self._path), why="its checksum is not that of its content")
            return NOTHING_KNOWN
        try:
            update = parse_update(serving_pb2.ServingUpdate.FromString(body))
        except (DecodeError, InvalidRequest) as error:
            log.error("snapshot_ignored", file=str(self._path), why=str(error))  # noqa: TRY400 - expected, no traceback
            return NOTHING_KNOWN
        return update if isinstance(update, RoutingTable) else NOTHING_KNOWN

    def save(self, table: RoutingTable) -> None:
        """Replace the file at once: whoever reads it finds the old table or the new one, after a power cut too."""
        body = dump_table(table).SerializeToString()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        # For the owner only: system prompts are the tenants' own.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(self._path.parent)


class SnapshotWriter:
    """Writes the newest table to disk, skipping those that were replaced while it wrote."""

    def __init__(self, file: SnapshotFile) -> None:
        """Take the file; nobody else writes it."""
        self._file = file
        self._tables: asyncio.Queue[RoutingTable] = asyncio.Queue(maxsize=1)

    def keep(self, table: RoutingTable) -> None:
        """Have the table written soon."""
        if self._tables.full():
            self._tables.get_nowait()
        self._tables.put_nowait(table)

    async def run(self) -> None:
        """Write until cancelled. A disk that refuses is logged: serving needs no disk."""
        while True:
            table = await self._tables.get()
            try:
                await asyncio.to_thread(self._file.save, table)
            except OSError as error:
                log.error("snapshot_not_written", why=str(error), generation=table.generation)  # noqa: TRY400 - no traceback


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
