"""A server over a fake engine that follows a real trainer, as one of several on machines of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from adaptory.serve.v1 import serve_admin_service_pb2, serve_admin_service_pb2_grpc, serve_service_pb2_grpc
from serve_svc.app import run_server
from serve_svc.engine.engine import Engine
from serve_svc.engine.guarded_engine import GuardedEngine
from serve_svc.engine.supervisor import SupervisorPolicy
from serve_svc.model import open_model
from serve_svc.settings import ServeSettings
from tests.fakes.engine import SETTINGS
from tests.fakes.server import PausingVllm, key_of, question
from tests.fakes.trainer import Metadata, Trainer

_POLICY = SupervisorPolicy(poll_s=0.01, first_backoff_s=0.001)


@dataclass(slots=True)
class Replica:
    """One that runs: its stubs, the operator's key, and its engines, the newest last."""

    chat: serve_service_pb2_grpc.ServeServiceStub
    admin: serve_admin_service_pb2_grpc.ServeAdminServiceStub
    admin_key: Metadata
    engines: list[PausingVllm]

    async def residency(self) -> serve_admin_service_pb2.Residency:
        """Return what it says of itself."""
        request = serve_admin_service_pb2.GetResidencyRequest()
        return await self.admin.GetResidency(request, metadata=self.admin_key)

    async def followed(self, generation: int) -> None:
        """Return when it has what the registry knew at this generation."""
        async with asyncio.timeout(10):
            while (await self.residency()).generation < generation:
                pass

    async def version_of(self, bot: str, key: Metadata) -> int:
        """Return the number of the version that answers for a bot."""
        answer = await self.chat.ChatUnary(question(bot, max_output_tokens=1), metadata=key)
        return int(answer.finish.version.rpartition("/")[2])


@asynccontextmanager
async def run_replica(trainer: Trainer, folder: Path) -> AsyncIterator[Replica]:
    """Have a server with its state in `folder` run while the block runs."""
    settings = ServeSettings(
        address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        openai_address="",
        state_dir=folder,
        registry_address=trainer.endpoint.grpc,
        server_key_file=trainer.folder / "state" / "server.key",
        base_model="tiny",
        cache_dir=trainer.folder / "cache",
        max_model_tokens=SETTINGS.max_model_tokens,
        max_lora_rank=SETTINGS.max_lora_rank,
        usage_keep_seconds=0.05,
        usage_report_seconds=0.05,
    )
    engines: list[PausingVllm] = []

    async def build_engine() -> Engine:
        engines.append(PausingVllm())
        return GuardedEngine(engines[-1], SETTINGS)

    async with (
        run_server(settings, open_model(settings), build_engine, _POLICY) as endpoint,
        grpc.aio.insecure_channel(endpoint.grpc) as channel,
    ):
        yield Replica(
            serve_service_pb2_grpc.ServeServiceStub(channel),
            serve_admin_service_pb2_grpc.ServeAdminServiceStub(channel),
            key_of((folder / "admin.key").read_text().strip()),
            engines,
        )
