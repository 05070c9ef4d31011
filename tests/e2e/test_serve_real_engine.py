"""`python -m serve_svc` with vLLM, as an operator starts it: a real engine is killed amid a stream, and serving goes on."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openai import AsyncOpenAI

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Renderer
from adaptory.registry.v1 import serving_pb2
from adaptory.serve.v1 import serve_service_pb2, serve_service_pb2_grpc
from tests.adapters import write_adapter
from tests.fakes.registry import SERVER_KEY, FakeRegistry
from tests.fakes.server import SERVE_SERVICE, info_of, key_of, question, reason_of

BOT = "tenants/acme/bots/faq"
ACME = key_of("adk_acme")
INITECH = key_of("adk_initech")
INITECH_BOT = "tenants/initech/bots/faq"


@dataclass(frozen=True, slots=True)
class Served:
    """The service's process, stubs of the calls to it, and where it speaks OpenAI's interface."""

    process: asyncio.subprocess.Process
    chat: serve_service_pb2_grpc.ServeServiceStub
    health: Any
    openai: str

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service, its registry and its log have their files."""
    return tmp_path_factory.mktemp("served")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(prepared_base: Path, folder: Path) -> AsyncIterator[FakeRegistry]:
    """A registry whose one bot is answered by a small adapter on the embedded base; of two more versions no server can load one.

    Initech has the bare base, may use a token a day, and has used ten.
    """
    base = PreparedBase.open(prepared_base)
    renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
    async with FakeRegistry() as registry:
        registry.put_tenant("acme", "adk_acme")
        registry.put_tenant("globex", "adk_globex")
        for number, rank, digest in ((1, 4, ""), (2, 4, "0" * 64), (3, 32, "")):
            adapter = write_adapter(folder / str(number), base.shape, rank=rank, dtype="BF16", weight_scale=0.001)
            version = serving_pb2.ServingVersion(
                name=f"{BOT}/versions/{number}",
                engine_id=number,
                rank=rank,
                digest=digest,
                parity_digest=base.parity_digest,
                template_digest=renderer.template_digest,
            )
            registry.put_version(version, adapter)
        registry.put_bot(BOT, base_model=base.name, production=f"{BOT}/versions/1")
        registry.put_bot("tenants/globex/bots/faq", base_model=base.name)
        registry.put_tenant("initech", "adk_initech", tokens_per_day=1)
        registry.ledger.day, registry.ledger.totals = datetime.now(UTC).date().isoformat(), {"initech": 10}
        registry.put_bot(INITECH_BOT, base_model=base.name)
        yield registry


@pytest.fixture(scope="module")
def temporary_files() -> Iterator[Path]:
    """What the service has for TMPDIR: empty when it has ended, whatever was killed meanwhile. A socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        yield Path(folder)
        assert [file.name for file in Path(folder).rglob("*") if file.is_socket() or "engine" in file.name] == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(registry: FakeRegistry, folder: Path, temporary_files: Path) -> AsyncIterator[Served]:
    """The service in a process of its own, serving; one engine's start is enough for all tests."""
    (folder / "server.key").write_text(SERVER_KEY)
    settings = {
        "ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "OPENAI_ADDRESS": "127.0.0.1:0",
        "STATE_DIR": str(folder / "state"),
        "REGISTRY_ADDRESS": registry.address,
        "SERVER_KEY_FILE": str(folder / "server.key"),
        "KV_CACHE_BYTES": str(1 << 28),
        "MAX_LORAS": "2",
        "MAX_CPU_LORAS": "4",
    }
    environment = os.environ | {f"ADAPTORY_SERVE_{name}": value for name, value in settings.items()}
    environment["TMPDIR"] = str(temporary_files)
    with (folder / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serve_svc", env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        addresses = await read_addresses(process)
        async with grpc.aio.insecure_channel(addresses["grpc"]) as channel:
            served = Served(
                process,
                serve_service_pb2_grpc.ServeServiceStub(channel),
                health_pb2_grpc.HealthStub(channel),
                addresses["openai"],
            )
            await served.until("SERVING")
            yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def read_addresses(process: asyncio.subprocess.Process) -> dict[str, str]:
    """Return where the service says that it listens."""
    assert process.stdout is not None
    async for line in process.stdout:
        with contextlib.suppress(ValueError):
            if (event := json.loads(line))["event"] == "serve_ready":
                return {name: str(value) for name, value in event.items()}
    raise AssertionError("the service ended before it was ready")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bot_streams_to_openais_client(served: Served) -> None:
    """Piece by piece what gRPC has in one, greedily, with the same counts."""
    over_grpc = await served.chat.ChatUnary(question(BOT, max_output_tokens=12), metadata=ACME, timeout=60)
    async with AsyncOpenAI(base_url=f"http://{served.openai}/v1", api_key="adk_acme", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="faq",
            messages=[{"role": "user", "content": question(BOT).messages[0].content}],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == over_grpc.text
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == over_grpc.finish.num_output_tokens
    assert chunks[-1].system_fingerprint == f"{BOT}/versions/1"


REFUSED = {
    "CORRUPTED": (question(f"{BOT}/versions/2"), ACME),
    "RANK_ABOVE_LIMIT": (question(f"{BOT}/versions/3"), ACME),
    "NOT_FOUND": (question("tenants/globex/bots/faq"), ACME),
    "INVALID_REQUEST": (question(BOT, "word " * 5_000), ACME),
    "TOKENS_PER_DAY": (question(f"{INITECH_BOT}/versions/0"), INITECH),
}


async def refuse(served: Served, request: serve_service_pb2.ChatRequest, key: tuple[tuple[str, str], ...]) -> str:
    """Return the reason for which a request is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.chat.ChatUnary(request, metadata=key, timeout=60)
    return reason_of(refused.value)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_refused_leaves_a_running_answer_as_it_was(served: Served) -> None:
    """Byte for byte what was said in a quiet hour, beside what cannot be loaded, bad routes, long prompts and a limit used up."""
    request = question(BOT, "Tell me a long story.", max_output_tokens=96)
    quiet = await served.chat.ChatUnary(request, metadata=ACME, timeout=120)
    running = served.chat.ChatUnary(request, metadata=ACME, timeout=120)
    reasons = {expected: [await refuse(served, *bad)] for expected, bad in REFUSED.items()}
    while not running.done():
        for expected, bad in REFUSED.items():
            reasons[expected].append(await refuse(served, *bad))

    assert {expected: told[0] for expected, told in reasons.items()} == {expected: expected for expected in REFUSED}
    assert (await running).text == quiet.text
    assert quiet.finish.num_output_tokens > 24


@pytest.mark.asyncio(loop_scope="module")
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
