"""Bytes of datasets on their way in: appended to a spool file, judged as a whole, then moved to the artifact store.

Chunks are written by the database's one writer thread, inside the transaction that counts them, so two callers never interleave and
the count never runs ahead of the bytes.
"""

import asyncio
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, select

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import Conflict, Corrupted, FailedPrecondition, TooLarge
from adaptory.core.names import DatasetName
from trainer_svc.bots.adapter_archive import judge_archive
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.report import DatasetReport
from trainer_svc.registry import tables
from trainer_svc.registry.artifacts import ArtifactStore
from trainer_svc.registry.database import Database
from trainer_svc.registry.datasets import Dataset, DatasetDraft, DatasetState, read_dataset, write_size, write_verdict


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How large a dataset may be, one that holds an adapter, and how large what data holds."""

    max_dataset_bytes: int
    max_adapter_bytes: int
    data: DataLimits

    def choose_max_bytes(self, dataset_format: DatasetFormat) -> int:
        """Return how large an upload of a format may be."""
        return self.max_dataset_bytes if dataset_format.is_data else self.max_adapter_bytes


class Uploads:
    """Takes the bytes of datasets that are UPLOADING."""

    def __init__(self, database: Database, artifacts: ArtifactStore, spool: Path, limits: UploadLimits) -> None:
        """Take the folder of the spool files, which is made when absent."""
        self._database = database
        self._artifacts = artifacts
        self._spool = spool
        self._limits = limits
        spool.mkdir(parents=True, exist_ok=True)

    async def append(self, name: DatasetName, *, offset: int, data: bytes) -> Dataset:
        """Append bytes; those that are there already, sent again, change nothing.

        Raises NotFound, FailedPrecondition (NOT_UPLOADING, OFFSET_MISMATCH with the offset expected), TooLarge.
        """

        def append_chunk(transaction: Connection) -> Dataset:
            dataset = read_dataset(transaction, name)
            _require_uploading(dataset)
            descriptor = os.open(self._file_of(dataset), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if offset + len(data) <= dataset.size_bytes and os.pread(descriptor, len(data), offset) == data:
                    return dataset
                self._check_room(dataset, offset, len(data))
                write_size(transaction, dataset, offset + os.pwrite(descriptor, data, offset))
            finally:
                os.close(descriptor)
            return read_dataset(transaction, name)

        return await self._database.write(append_chunk)

    async def finalize(self, name: DatasetName, *, digest: str, base: PreparedBase | None) -> Dataset:
        """Judge all bytes and make the dataset READY or REJECTED; one that is final already stays as it is.

        Tokens are those of the base; without one they are not counted.
        Raises NotFound, Corrupted (DIGEST_MISMATCH) when `digest` is not empty and not that of the bytes, and Conflict when a chunk
        came meanwhile.
        """
        dataset = await self._database.write(lambda transaction: self._begin_finalize(transaction, name))
        if dataset.state is not DatasetState.UPLOADING:
            return dataset
        path = self._file_of(dataset)
        report, found = await asyncio.to_thread(self._judge, path, dataset, digest, base)

        def end_finalize(transaction: Connection) -> Dataset:
            now = read_dataset(transaction, name)
            if now.state is DatasetState.UPLOADING:
                if now.size_bytes != dataset.size_bytes:
                    message = (
                        f"{name} grew from {dataset.size_bytes} to {now.size_bytes} bytes meanwhile; finalize it again."
                    )
                    raise Conflict(message, metadata={"name": name, "size_bytes": now.size_bytes})
                write_verdict(transaction, dataset, report, found)
            return read_dataset(transaction, name)

        final = await self._database.write(end_finalize)
        path.unlink(missing_ok=True)
        return final

    async def remove_leftovers(self) -> None:
        """Delete the spool files of uploads that are over: a killed process may have left them."""
        table = tables.datasets
        query = select(table.c.dataset).where(table.c.state == DatasetState.UPLOADING)
        uploading = set(await self._database.read(lambda transaction: transaction.execute(query).scalars().all()))
        for path in self._spool.iterdir():
            if path.name not in uploading:
                path.unlink()

    def _begin_finalize(self, transaction: Connection, name: DatasetName) -> Dataset:
        dataset = read_dataset(transaction, name)
        if dataset.state is DatasetState.UPLOADING:
            path = self._file_of(dataset)
            path.touch(mode=0o600)
            size_bytes = path.stat().st_size
            if size_bytes < dataset.size_bytes:
                message = (
                    f"{name} lost {dataset.size_bytes - size_bytes} bytes on disk; upload it again as another dataset."
                )
                metadata = {"name": name, "num_bytes": dataset.size_bytes - size_bytes}
                raise Corrupted(message, reason="UPLOAD_LOST", metadata=metadata)
            # A process killed between the write and the commit leaves bytes that were never counted.
            os.truncate(path, dataset.size_bytes)
        return dataset

    def _judge(self, path: Path, dataset: Dataset, digest: str, base: PreparedBase | None) -> tuple[DatasetReport, str]:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if digest and digest != found:
                message = (
                    f"The bytes received have SHA-256 {found}, not {digest}; upload the file again as another dataset."
                )
                raise Corrupted(message, reason="DIGEST_MISMATCH", metadata={"digest": digest, "found": found})
            file.seek(0)
            report = self._judge_content(file, dataset.draft, base)
            if not report.is_usable:
                return report, ""
            file.seek(0)
            return report, self._artifacts.put(file).digest

    def _judge_content(self, file: BinaryIO, draft: DatasetDraft, base: PreparedBase | None) -> DatasetReport:
        if not draft.format.is_data:
            return judge_archive(file)
        ruler = TokenRuler(base) if base else None
        return judge_dataset(file, draft.kind, draft.format, self._limits.data, ruler)

    def _check_room(self, dataset: Dataset, offset: int, num_bytes: int) -> None:
        if offset != dataset.size_bytes:
            message = f"{dataset.name} has {dataset.size_bytes} bytes; the next chunk begins there, not at {offset}."
            metadata = {"name": dataset.name, "offset_expected": dataset.size_bytes, "offset": offset}
            raise FailedPrecondition(message, reason="OFFSET_MISMATCH", metadata=metadata)
        size_bytes, limit_bytes = offset + num_bytes, self._limits.choose_max_bytes(dataset.draft.format)
        if size_bytes > limit_bytes:
            way_out = "Split the data." if dataset.draft.format.is_data else "Train a lower rank, or save it in bf16."
            message = f"{dataset.name} would have {size_bytes} bytes; at most {limit_bytes} are taken. {way_out}"
            raise TooLarge(
                message, metadata={"name": dataset.name, "size_bytes": size_bytes, "limit_bytes": limit_bytes}
            )

    def _file_of(self, dataset: Dataset) -> Path:
        return self._spool / dataset.name.dataset


def _require_uploading(dataset: Dataset) -> None:
    if dataset.state is not DatasetState.UPLOADING:
        message = f"{dataset.name} is {dataset.state} and never changes any more; create another dataset."
        metadata = {"name": dataset.name, "state": dataset.state}
        raise FailedPrecondition(message, reason="NOT_UPLOADING", metadata=metadata)
