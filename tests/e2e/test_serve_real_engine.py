"""`python -m serve_svc` with vLLM, as an operator starts it: a real engine is killed amid a stream, and serving goes on."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Renderer
from adaptory.registry.v1 import serving_pb2
from adaptory.serve.v1 import serve_service_pb2_grpc
from tests.adapters import write_adapter
from tests.fakes.registry import SERVER_KEY, FakeRegistry
from tests.fakes.server import SERVE_SERVICE, info_of, key_of, question, reason_of

BOT = "tenants/acme/bots/faq"
ACME = key_of("adk_acme")


@dataclass(frozen=True, slots=True)
class Served:
    """The service's process, and stubs of the calls to it."""

    process: asyncio.subprocess.Process
    chat: serve_service_pb2_grpc.ServeServiceStub
    health: Any

    async def until(self, status: str) -> None:
        """Return when health says `status`."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        request = health_pb2.HealthCheckRequest(service=SERVE_SERVICE)
        async for reply in self.health.Watch(request, timeout=120, wait_for_ready=True):
            if reply.status == wanted:
                return

    def kill_engine(self) -> None:
        """Kill vLLM's engine process without a warning."""
        children = psutil.Process(self.process.pid).children()
        (engine,) = (child for child in children if "EngineCore" in "".join(child.cmdline()))
        engine.kill()


@pytest.fixture
async def registry(prepared_base: Path, tmp_path: Path) -> AsyncIterator[FakeRegistry]:
    """A registry whose one bot is answered by a small adapter on the embedded base."""
    base = PreparedBase.open(prepared_base)
    folder = write_adapter(tmp_path / "adapter", base.shape, rank=4, dtype="BF16", weight_scale=0.001)
    renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
    version = serving_pb2.ServingVersion(
        name=f"{BOT}/versions/1",
        engine_id=1,
        rank=4,
        parity_digest=base.parity_digest,
        template_digest=renderer.template_digest,
    )
    async with FakeRegistry() as registry:
        registry.put_tenant("acme", "adk_acme")
        registry.put_version(version, folder)
        registry.put_bot(BOT, base_model=base.name, production=version.name)
        yield registry


@pytest.fixture
async def served(registry: FakeRegistry, tmp_path: Path) -> AsyncIterator[Served]:
    """The service in a process of its own, serving."""
    (tmp_path / "server.key").write_text(SERVER_KEY)
    settings = {
        "ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "OPENAI_ADDRESS": "127.0.0.1:0",
        "STATE_DIR": str(tmp_path / "state"),
        "REGISTRY_ADDRESS": registry.address,
        "SERVER_KEY_FILE": str(tmp_path / "server.key"),
        "KV_CACHE_BYTES": str(1 << 28),
        "MAX_CPU_LORAS": "4",
    }
    environment = os.environ | {f"ADAPTORY_SERVE_{name}": value for name, value in settings.items()}
    with (tmp_path / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serve_svc", env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        address = await read_address(process)
        async with grpc.aio.insecure_channel(address) as channel:
            served = Served(
                process, serve_service_pb2_grpc.ServeServiceStub(channel), health_pb2_grpc.HealthStub(channel)
            )
            await served.until("SERVING")
            yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def read_address(process: asyncio.subprocess.Process) -> str:
    """Return where the service says that it listens."""
    assert process.stdout is not None
    async for line in process.stdout:
        with contextlib.suppress(ValueError):
            if (event := json.loads(line))["event"] == "serve_ready":
                return str(event["grpc"])
    raise AssertionError("the service ended before it was ready")


async def test_serving_goes_on_after_the_engine_is_killed_amid_a_stream(served: Served) -> None:
    """The stream ends UNAVAILABLE and says how far it came; the next engine has the adapter back and answers."""
    stream = aiter(served.chat.Chat(question(BOT, "Count to a thousand.", max_output_tokens=1000), metadata=ACME))
    first = await anext(stream)
    served.kill_engine()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [piece async for piece in stream]
    await served.until("NOT_SERVING")
    await served.until("SERVING")

    answer = await served.chat.ChatUnary(question(BOT, max_output_tokens=4), metadata=ACME, timeout=60)

    assert first.text
    assert reason_of(caught.value) == "ENGINE_RESTARTING"
    assert int(info_of(caught.value).metadata["num_output_tokens"]) >= 1
    assert answer.finish.version == f"{BOT}/versions/1"
