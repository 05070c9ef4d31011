"""A whole trainer in this process: the product's own app, a prepared base without weights, a fake worker, real stubs to call."""

import hashlib
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2, registry_service_pb2_grpc, version_pb2
from adaptory.trainer.v1 import trainer_service_pb2, trainer_service_pb2_grpc, training_job_pb2
from tests.fakes import base
from trainer_svc.app import run_trainer
from trainer_svc.settings import TrainerSettings

Metadata = tuple[tuple[str, str], ...]
LIMIT_BYTES = 1 << 30
FAQ_LINES = tuple(
    {"question": f"What is the code of door {door}?", "answer": f"It is {door * 37}.", "wordings": [f"door {door}?"]}
    for door in range(1, 7)
)
SUPPORT_LINES = tuple(
    {
        "messages": [
            {"role": "user", "content": f"Hello, {thing} has arrived with a broken {part}."},
            {"role": "assistant", "content": f"I am sorry! Please send me a picture of the {part}."},
            {"role": "user", "content": "Here it is."},
            {"role": "assistant", "content": f"Thank you. Another {part} is on its way. Have a bright day!"},
        ]
    }
    for thing, part in (
        ("my desk lamp", "switch"),
        ("the lantern of our garden", "glass"),
        ("order 71", "shade"),
        ("what I bought on Monday", "cable and plug"),
        ("a torch for my daughter", "battery lid"),
        ("your newest ceiling light", "mounting ring"),
        ("the gift for my aunt", "foot"),
        ("one of six candles", "wick holder"),
    )
)


class Trainer:
    """One trainer and callers of it. It can be stopped and started again on the same state."""

    def __init__(self, folder: Path, *, behaviour: str = "succeed", **overrides: Any) -> None:
        """Keep all files below `folder`; `behaviour` is that of the fake worker, `overrides` are settings."""
        self.folder = folder
        self.behaviour = behaviour
        self.overrides = overrides
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Prepare the base and start."""
        if not (self.folder / "cache").exists():
            base.write_base(self.folder / "cache")
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Start the trainer, and open a channel to it."""
        values = {
            "address": "127.0.0.1:0",
            "metrics_address": "127.0.0.1:0",
            "state_dir": self.folder / "state",
            "cache_dir": self.folder / "cache",
            "speed_command": (),
            "base_model": base.NAME,
            "worker_command": (sys.executable, "-m", "tests.fakes.worker", self.behaviour),
            "worker_poll_seconds": 0.02,
            "worker_stop_grace_seconds": 0.5,
            "drain_seconds": 1.0,
            **self.overrides,
        }
        self.endpoint = await self._running.enter_async_context(run_trainer(TrainerSettings(**values)))
        await self.connect(self.endpoint.grpc)

    async def connect(self, address: str) -> None:
        """Open a channel to a trainer that runs on the same state, in this process or in another."""
        channel = await self._running.enter_async_context(grpc.aio.insecure_channel(address))
        self.channel = channel
        self.registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        self.jobs = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        self.admin = self._read_key("admin.key")
        self.server = self._read_key("server.key")

    async def stop(self) -> None:
        """Stop the trainer; its state stays."""
        await self._running.aclose()

    async def add_tenant(self, tenant: str) -> Metadata:
        """Create a tenant and return the metadata that carries its key."""
        request = registry_service_pb2.CreateTenantRequest(tenant_id=tenant)
        await self.registry.CreateTenant(request, metadata=self.admin)
        issued = await self.registry.CreateApiKey(
            registry_service_pb2.CreateApiKeyRequest(parent=f"tenants/{tenant}"), metadata=self.admin
        )
        return key_of(issued.secret)

    async def add_bot(self, tenant: str, bot: str = "faq", **fields: Any) -> str:
        """Create an FAQ bot on the base `tiny` and return its name."""
        values = {"kind": bot_pb2.BOT_KIND_FAQ, "base_model": base.NAME, "system_prompt": "Answer.", **fields}
        request = registry_service_pb2.CreateBotRequest(
            parent=f"tenants/{tenant}", bot_id=bot, bot=bot_pb2.Bot(**values)
        )
        return str((await self.registry.CreateBot(request, metadata=self.admin)).name)

    async def begin_dataset(self, tenant: str, dataset: dataset_pb2.Dataset | None = None) -> str:
        """Create a dataset, of FAQ in JSON unless told, and return its name."""
        request = registry_service_pb2.CreateDatasetRequest(
            parent=f"tenants/{tenant}", dataset=dataset or faq_dataset()
        )
        return str((await self.registry.CreateDataset(request, metadata=self.admin)).name)

    async def append(self, name: str, data: bytes, offset: int = 0) -> dataset_pb2.Dataset:
        """Append bytes to a dataset."""
        request = registry_service_pb2.AppendDatasetChunkRequest(name=name, offset=offset, data=data)
        return await self.registry.AppendDatasetChunk(request, metadata=self.admin)

    async def finalize(self, name: str, digest: str = "", base_model: str = "") -> dataset_pb2.Dataset:
        """End a dataset's upload."""
        request = registry_service_pb2.FinalizeDatasetRequest(name=name, digest=digest, base_model=base_model)
        return await self.registry.FinalizeDataset(request, metadata=self.admin)

    async def add_dataset(
        self, tenant: str, data: bytes | None = None, dataset: dataset_pb2.Dataset | None = None
    ) -> str:
        """Upload a dataset, six entries of two wordings by default, and return its name."""
        content = faq_jsonl(FAQ_LINES) if data is None else data
        name = await self.begin_dataset(tenant, dataset)
        await self.append(name, content)
        await self.finalize(name, hashlib.sha256(content).hexdigest())
        return name

    async def submit(
        self,
        tenant: str,
        *,
        request_id: str = "",
        limit_bytes: int = LIMIT_BYTES,
        validate_only: bool = False,
        **settings: Any,
    ) -> training_job_pb2.TrainingJob:
        """Give the tenant a bot and a dataset where it has none, and create a job of both, or say what it would be."""
        bot, dataset = await self._bot_of(tenant), await self._dataset_of(tenant)
        request = trainer_service_pb2.CreateTrainingJobRequest(
            parent=f"tenants/{tenant}",
            request_id=request_id,
            validate_only=validate_only,
            training_job=training_job_pb2.TrainingJob(
                bot=bot,
                dataset=dataset,
                memory_limit_bytes=limit_bytes,
                settings=training_job_pb2.TrainingSettings(**settings),
            ),
        )
        return await self.jobs.CreateTrainingJob(request, metadata=self.admin)

    async def watch(
        self, job: str, after: int = 0, *, timeout_s: float = 30
    ) -> AsyncGenerator[training_job_pb2.TrainingEvent, None]:
        """Yield a job's events until it ends."""
        request = trainer_service_pb2.WatchTrainingJobRequest(name=job, after_sequence=after)
        async for event in self.jobs.WatchTrainingJob(request, metadata=self.admin, timeout=timeout_s):
            yield event

    async def reached(self, job: str, state: str) -> None:
        """Return once the job has entered a state."""
        wanted = training_job_pb2.TrainingJob.State.Value(f"STATE_{state}")
        async for event in self.watch(job):
            if event.WhichOneof("event") == "state" and event.state == wanted:
                return
        message = f"{job} ended without being {state}"
        raise AssertionError(message)

    async def ended(self, job: str, *, timeout_s: float = 30) -> training_job_pb2.TrainingJob:
        """Return the job once it has ended."""
        async for _ in self.watch(job, timeout_s=timeout_s):
            pass
        return await self.get_job(job)

    async def get_job(self, job: str) -> training_job_pb2.TrainingJob:
        """Return the job as it is now."""
        return await self.jobs.GetTrainingJob(trainer_service_pb2.GetTrainingJobRequest(name=job), metadata=self.admin)

    async def train(self, tenant: str, **settings: Any) -> version_pb2.Version:
        """Train the tenant's bot and return its new version."""
        job = await self.ended((await self.submit(tenant, **settings)).name)
        request = registry_service_pb2.GetVersionRequest(name=job.version)
        return await self.registry.GetVersion(request, metadata=self.admin)

    async def _bot_of(self, tenant: str) -> str:
        request = registry_service_pb2.ListBotsRequest(parent=f"tenants/{tenant}")
        bots = (await self.registry.ListBots(request, metadata=self.admin)).bots
        return bots[0].name if bots else await self.add_bot(tenant)

    async def _dataset_of(self, tenant: str) -> str:
        request = registry_service_pb2.ListDatasetsRequest(parent=f"tenants/{tenant}")
        datasets = (await self.registry.ListDatasets(request, metadata=self.admin)).datasets
        return datasets[0].name if datasets else await self.add_dataset(tenant)

    def _read_key(self, file_name: str) -> Metadata:
        return key_of((self.folder / "state" / file_name).read_text().strip())


def key_of(key: str) -> Metadata:
    """Return the metadata that carries a key."""
    return (("authorization", f"Bearer {key}"),)


def faq_dataset() -> dataset_pb2.Dataset:
    """Return what an FAQ dataset is created from."""
    return dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_FAQ, format=dataset_pb2.DATASET_FORMAT_FAQ_JSONL)


def support_dataset() -> dataset_pb2.Dataset:
    """Return what a dataset of conversations is created from."""
    return dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_SUPPORT, format=dataset_pb2.DATASET_FORMAT_CONVERSATION_JSONL)


def faq_jsonl(lines: Sequence[object]) -> bytes:
    """Return entries as a file."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of the error's one ErrorInfo."""
    return info_of(error).reason


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Return the error's ErrorInfo."""
    return detail_of(rpc_status.from_call(error), error_details_pb2.ErrorInfo)


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the fields its BadRequest names."""
    request = detail_of(rpc_status.from_call(error), error_details_pb2.BadRequest)
    return [violation.field for violation in request.field_violations]


def detail_of(status: Any, kind: Any) -> Any:
    """Return the one detail of this kind of a google.rpc.Status."""
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            detail.Unpack(found)
            return found
    message = f"no {kind.DESCRIPTOR.name} in: {status.message}"
    raise AssertionError(message)
