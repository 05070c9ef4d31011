"""Training data: uploads that resume by themselves, and what the service found in them."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from adaptory.client.adapter_folder import pack_adapter
from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.client.errors import RpcFailed, is_interruption
from adaptory.client.pages import walk_pages
from adaptory.client.patience import Patience
from adaptory.registry.v1 import registry_service_pb2 as pb
from adaptory.registry.v1.bot_pb2 import BotKind
from adaptory.registry.v1.dataset_pb2 import Dataset, DatasetFormat
from adaptory.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

CHUNK_BYTES = 256 * 1024

OnBytes = Callable[[int, int], None]
"""Is told the bytes the service has and the bytes there are."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload, and what it is. The same upload made twice is one dataset, so a second run takes up an interrupted first.

    Rows are measured by `base_model`; left empty, by the service's default.
    """

    file: Path
    kind: BotKind
    format: DatasetFormat
    display_name: str = ""
    base_model: str = ""


class Datasets:
    """The RegistryService methods of datasets. Every method raises RpcFailed."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        """Call over `connection`, to trainer_svc; `patience` says how long an interrupted upload is taken up again."""
        self._connection = connection
        self._registry = RegistryServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated
        self._patience = patience

    async def upload(self, tenant: str, upload: Upload, *, on_bytes: OnBytes = lambda _sent, _total: None) -> Dataset:
        """Send a file in chunks and return the dataset, READY or REJECTED: look at `state` and `report`.

        Raises OSError when the file cannot be read, RpcFailed (DIGEST_MISMATCH) when it changed while it was sent.
        """
        digest = await asyncio.to_thread(_digest_file, upload.file)
        dataset = await self._begin(tenant, upload, digest)
        if dataset.state != Dataset.STATE_UPLOADING:
            return dataset
        await self._send(dataset, upload.file, on_bytes)
        request = pb.FinalizeDatasetRequest(name=dataset.name, digest=digest, base_model=upload.base_model)
        return await self._connection.call(self._registry.FinalizeDataset, request, deadline_s=LONG_DEADLINE_S)

    async def upload_adapter(
        self, tenant: str, folder: Path, kind: BotKind, *, on_bytes: OnBytes = lambda _sent, _total: None
    ) -> Dataset:
        """Send the two files of an adapter that was trained elsewhere, for `bots.import_adapter`; `kind` is that of the bot.

        Raises InvalidRequest when the folder lacks one of them, and as `upload`.
        """
        with tempfile.TemporaryDirectory() as aside:
            archive = Path(aside) / "adapter.tar"
            await asyncio.to_thread(pack_adapter, folder, archive)
            wanted = Upload(archive, kind, DatasetFormat.DATASET_FORMAT_ADAPTER_TAR)
            return await self.upload(tenant, wanted, on_bytes=on_bytes)

    async def get(self, name: str) -> Dataset:
        """Return `tenants/{tenant}/datasets/{id}`."""
        return await self._connection.call(self._registry.GetDataset, pb.GetDatasetRequest(name=name))

    async def list_all(self, tenant: str) -> AsyncIterator[Dataset]:
        """Yield the datasets of `tenants/{tenant}`, newest first."""

        async def fetch(token: str) -> pb.ListDatasetsResponse:
            request = pb.ListDatasetsRequest(parent=tenant, page_token=token)
            return await self._connection.call(self._registry.ListDatasets, request)

        async for dataset in walk_pages(fetch, lambda page: page.datasets):
            yield dataset

    async def _begin(self, tenant: str, upload: Upload, digest: str) -> Dataset:
        identity = f"{tenant}\n{upload.kind}\n{upload.format}\n{upload.display_name}\n{upload.base_model}\n{digest}"
        request = pb.CreateDatasetRequest(
            parent=tenant,
            dataset=Dataset(kind=upload.kind, format=upload.format, display_name=upload.display_name),
            # Made of the content, so that the same upload finds the dataset it began.
            request_id=hashlib.sha256(identity.encode()).hexdigest(),
        )
        return await self._connection.call(self._registry.CreateDataset, request)

    async def _send(self, dataset: Dataset, file: Path, on_bytes: OnBytes) -> None:
        num_failures = 0
        while True:
            received_bytes = dataset.size_bytes
            try:
                await self._send_from(dataset, file, on_bytes)
            except RpcFailed as failure:
                if not (is_interruption(failure) or failure.reason == "OFFSET_MISMATCH"):
                    raise
                num_failures += 1
                if num_failures > self._patience.max_failures:
                    raise
                await self._patience.wait_after(num_failures)
                dataset = await self._look_up(dataset)
                num_failures = 0 if dataset.size_bytes > received_bytes else num_failures
            else:
                return

    async def _send_from(self, dataset: Dataset, file: Path, on_bytes: OnBytes) -> None:
        with file.open("rb") as data:
            total_bytes = data.seek(0, 2)
            offset = data.seek(dataset.size_bytes)
            on_bytes(offset, total_bytes)
            while chunk := await asyncio.to_thread(data.read, CHUNK_BYTES):
                request = pb.AppendDatasetChunkRequest(name=dataset.name, offset=offset, data=chunk)
                appended: Dataset = await self._connection.call(self._registry.AppendDatasetChunk, request)
                offset = appended.size_bytes
                on_bytes(offset, total_bytes)

    async def _look_up(self, dataset: Dataset) -> Dataset:
        try:
            return await self.get(dataset.name)
        except RpcFailed as failure:
            if failure.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            return dataset


def _digest_file(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
