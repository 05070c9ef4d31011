"""Our side: serve_svc in a process of its own, started as an operator starts it, and asked over gRPC by the contract's stubs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from adaptory.client import AdaptoryClient
from adaptory.core.auth import load_or_make_key
from adaptory.core.base_model import PreparedBase
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.serve.v1.serve_service_pb2 import ChatMessage, ChatRequest
from adaptory.serve.v1.serve_service_pb2_grpc import ServeServiceStub
from bench.serving.demand import BASE, Ask
from bench.serving.door import Refused
from bench.serving.engine_size import MAX_CPU_LORAS, SETTINGS
from bench.serving.registry import BenchRegistry
from bench.serving.shelf import AdapterShelf
from examples.demo.services import run_service

_START_S = 600.0
_SETTLE_S = 15.0
_POLL_S = 0.2
_DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class OurDoor:
    """A serve_svc that is up, and the registry it follows."""

    registry: BenchRegistry
    serve: ServeServiceStub
    process: psutil.Process

    async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
        """Ask the speaker's bot, as its tenant. Raises Refused for RESOURCE_EXHAUSTED, AioRpcError for any other failure."""
        # The base is asked as the first tenant: its bot's version 0.
        speaker = max(ask.speaker, 0)
        name = self.registry.bot_of(speaker) + ("/versions/0" if ask.speaker == BASE else "")
        request = ChatRequest(
            name=name,
            messages=[ChatMessage(role=ChatMessage.ROLE_USER, content=ask.question)],
            options=GenerationOptions(max_output_tokens=ask.max_tokens, temperature=0),
        )
        metadata = (("authorization", f"Bearer {self.registry.key_of(speaker)}"),)
        call = self.serve.Chat(request, metadata=metadata, timeout=_DEADLINE_S)
        num_tokens = 0
        try:
            async for piece in call:
                on_piece()
                num_tokens = piece.finish.num_output_tokens
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise Refused(error.details()) from error
            raise
        finally:
            call.cancel()
        return num_tokens

    async def swap(self, speaker: int) -> None:
        """Promote the bot's next version, as PromoteVersion does; the server hears of it by its watch."""
        self.registry.promote_next(speaker)

    def measure_memory(self) -> int:
        """Return the resident bytes of the service, its engine and the engine's worker."""
        return sum_resident(self.process)


def sum_resident(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all it started."""
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_info().rss for member in family)


@asynccontextmanager
async def open_our_door(
    base: PreparedBase, shelf: AdapterShelf, *, num_speakers: int, num_slots: int, num_versions: int, folder: Path
) -> AsyncIterator[OurDoor]:
    """Have serve_svc run while the block runs; it begins when the engine holds what the service loads unasked.

    Raises ServiceEnded when it does not come up.
    """
    state, key_file = folder / "serve", folder / "server.key"
    load_or_make_key(key_file)
    async with BenchRegistry(base, shelf, num_speakers, num_versions) as registry:
        settings = {
            "STATE_DIR": str(state),
            "ADDRESS": "127.0.0.1:0",
            "METRICS_ADDRESS": "127.0.0.1:0",
            "OPENAI_ADDRESS": "",
            "REGISTRY_ADDRESS": registry.address,
            "SERVER_KEY_FILE": str(key_file),
            "BASE_MODEL": base.name,
            "MAX_LORAS": str(num_slots),
            **SETTINGS,
        }
        async with run_service("serve_svc", "ADAPTORY_SERVE_", settings, folder) as service:
            address = (await service.read_endpoint(state))["grpc"]
            admin_key = load_or_make_key(state / "admin.key")
            async with AdaptoryClient(admin_key, server=address) as operator:
                await service.outlive(operator.chat.wait_until_ready(deadline_s=_START_S))
                await service.outlive(_settle(operator, min(num_speakers, MAX_CPU_LORAS)))
            async with grpc.aio.insecure_channel(address) as channel:
                serve = ServeServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
                yield OurDoor(registry, serve, psutil.Process(service.process.pid))


async def _settle(operator: AdaptoryClient, num_resident: int) -> None:
    """Wait until so many adapters are in the engine, which the service loads by itself, or no more have come for a while."""
    clock = asyncio.get_running_loop().time
    num_found, found_s = -1, clock()
    while num_found < num_resident and clock() - found_s < _SETTLE_S:
        num_found, before = len((await operator.serving.get_residency()).adapters), num_found
        if num_found != before:
            found_s = clock()
        await asyncio.sleep(_POLL_S)
