"""A whole server in this process: the product's own app over a fake engine, a real registry to follow, and real stubs to call."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from adaptory.core.fim import FimRenderer
from adaptory.core.fim_families import TAUGHT
from adaptory.core.prompting import Renderer
from adaptory.core.receipt import sign_chat, sign_code
from adaptory.registry.v1 import serving_pb2
from adaptory.serve.v1 import (
    generation_pb2,
    serve_admin_service_pb2,
    serve_admin_service_pb2_grpc,
    serve_service_pb2,
    serve_service_pb2_grpc,
)
from serve_svc.app import run_server
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import Engine, EngineChunk, EngineRequest
from serve_svc.engine.guarded_engine import GuardedEngine
from serve_svc.engine.supervisor import SupervisorPolicy
from serve_svc.model import ServedModel
from serve_svc.routing import BaseIdentity
from serve_svc.settings import ServeSettings
from tests.adapters import tiny_shape, write_adapter
from tests.fakes.engine import SETTINGS, FakeVllm, voice_of
from tests.fakes.registry import SERVER_KEY, FakeRegistry

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_POLICY = SupervisorPolicy(poll_s=0.01, first_backoff_s=0.001)
SERVE_SERVICE = "adaptory.serve.v1.ServeService"


def tiny_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token for each byte and ChatML's two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1, **{symbol: 2 + index for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


def tiny_renderer() -> Renderer:
    """Return a renderer of conversations with that tokenizer."""
    return Renderer(tiny_tokenizer(), _TEMPLATE, "<|im_end|>")


def tiny_fim_renderer() -> FimRenderer:
    """Return a renderer of completions with that tokenizer, which knows the taught form only."""
    return FimRenderer(tiny_tokenizer(), TAUGHT, "<|im_end|>")


def tiny_model() -> ServedModel:
    """Return a base named `tiny`."""
    renderer = tiny_renderer()
    fim_renderer = tiny_fim_renderer()
    receipts = sign_chat(renderer), sign_code(fim_renderer)
    identity = BaseIdentity("tiny", "b" * 64, renderer.template_digest, fim_renderer.form_digest, *receipts)
    return ServedModel(identity, tiny_shape(), renderer, fim_renderer, Path("/nowhere"))


class PausingVllm(FakeVllm):
    """A fake engine that can be stopped amid an answer, at a token known beforehand."""

    def __init__(self) -> None:
        """Begin without a pause ahead."""
        super().__init__()
        self._num_until_pause = math.inf
        self._slow_s: dict[str, float] = {}
        self._corrupt: set[str] = set()

    def pause_after(self, num_tokens: int) -> None:
        """Speak so many tokens more, then hang until `go_on`."""
        self._num_until_pause = num_tokens

    def go_on(self) -> None:
        """Step again."""
        self._num_until_pause = math.inf
        self._free_to_step.set()

    def slow_down(self, version: str, *, seconds: float) -> None:
        """Let answers of `tenants/{tenant}/bots/{bot}/versions/{n}` begin so much later."""
        self._slow_s[version] = seconds

    def corrupt(self, version: str) -> None:
        """Let this version compute NaN, as one does whose activations overflow though its weights are fine."""
        self._corrupt.add(version)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Speak as any fake does, after what is wrong with the version."""
        adapter = request.adapter
        tenant, bot, number = adapter.name.partition("@")[0].split("/") if adapter else ("", "", "")
        version = f"tenants/{tenant}/bots/{bot}/versions/{number}"
        await asyncio.sleep(self._slow_s.get(version, 0))
        if version in self._corrupt:
            raise OutputCorrupted(adapter)
        async with aclosing(super().generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _step(self) -> None:
        self._num_until_pause -= 1
        if self._num_until_pause < 0:
            self._num_until_pause = math.inf
            self.hang()
        await super()._step()


class Stage:
    """One registry, one server with fake engines, and callers. The server can be stopped and started again on the same state."""

    def __init__(self, folder: Path) -> None:
        """Keep all files below `folder`."""
        self.folder = folder
        self.registry = FakeRegistry()
        self.model = tiny_model()
        self.engines: list[PausingVllm] = []
        self._may_build = asyncio.Event()
        self._may_build.set()
        self.overrides: dict[str, Any] = {}
        self._server = AsyncExitStack()
        self._callers = AsyncExitStack()
        self._num_versions = 0

    async def __aenter__(self) -> Self:
        """Open the registry and start the server."""
        folder = self.folder
        (folder / "server.key").write_text(SERVER_KEY)
        await self.registry.open()
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down."""
        await self.stop()
        await self.registry.close()

    async def start(self) -> None:
        """Start the server, and open a channel to it."""
        settings = ServeSettings(
            address="127.0.0.1:0",
            metrics_address="127.0.0.1:0",
            state_dir=self.folder / "serve",
            registry_address=self.registry.address,
            server_key_file=self.folder / "server.key",
            base_model="tiny",
            **{
                "openai_address": "",
                "drain_seconds": 5.0,
                "max_loras": 2,
                "kept_places": 0,
                "max_cpu_loras": 4,
                "max_lora_rank": 8,
                "max_model_tokens": 256,
                **self.overrides,
            },
        )
        self.endpoint = await self._server.enter_async_context(
            run_server(settings, self.model, self._build_engine, _POLICY)
        )
        self.channel = channel = await self._callers.enter_async_context(grpc.aio.insecure_channel(self.endpoint.grpc))
        self.chat = serve_service_pb2_grpc.ServeServiceStub(channel)
        self.admin = serve_admin_service_pb2_grpc.ServeAdminServiceStub(channel)
        # its types leave the methods out
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def stop_server(self) -> None:
        """Stop the server; its state stays, and so do the channels to it."""
        await self._server.aclose()

    async def stop(self) -> None:
        """Stop the server and close the channels to it; its state stays."""
        await self.stop_server()
        await self._callers.aclose()

    def hold_builds(self) -> None:
        """Let the next engine take until `release_builds`."""
        self._may_build.clear()

    def release_builds(self) -> None:
        """Let the held engine come up."""
        self._may_build.set()

    @property
    def engine(self) -> PausingVllm:
        """The engine built last."""
        return self.engines[-1]

    @property
    def admin_key(self) -> tuple[tuple[str, str], ...]:
        """What an operator sends along."""
        return key_of((self.folder / "serve" / "admin.key").read_text().strip())

    def add_bot(self, bot: str, *, key: str) -> None:
        """Have the tenant of `tenants/{tenant}/bots/{bot}` exist with this key, and the bot without a version."""
        self.registry.put_tenant(bot.split("/")[1], key)
        self.registry.put_bot(bot, base_model="tiny")

    def add_version(self, name: str, *, adapter_rank: int = 8, seed: int = 0, **fields: Any) -> str:
        """Register a version with an adapter of its own, or one of that seed, and return the one word that it says."""
        self._num_versions += 1
        seed = seed or self._num_versions
        folder = write_adapter(self.folder / "adapters" / str(seed), tiny_shape(), rank=adapter_rank, seed=seed)
        values = {
            "engine_id": self._num_versions,
            "rank": 8,
            "parity_digest": self.model.base.digest,
            "template_digest": self.model.base.template_digest,
            "system_prompt": "You answer questions.",
            **fields,
        }
        self.registry.put_version(serving_pb2.ServingVersion(name=name, **values), folder)
        return voice_of(folder)

    def promote(self, name: str, *, previous: str = "") -> None:
        """Have a version answer for its bot."""
        self.registry.put_bot(name.rpartition("/versions/")[0], base_model="tiny", production=name, previous=previous)

    def try_canary(self, name: str, percent: int, *, production: str) -> None:
        """Have a version answer so many percent of its bot's conversations."""
        bot = name.rpartition("/versions/")[0]
        self.registry.put_bot(bot, base_model="tiny", production=production, canary=name, canary_percent=percent)

    def cast_shadow(self, name: str, *, production: str) -> None:
        """Have a version asked in all of its bot's conversations, unheard."""
        self.promote(production)
        self.registry.put_shadow(name)

    async def residency(self) -> serve_admin_service_pb2.Residency:
        """Return what the server says of itself."""
        request = serve_admin_service_pb2.GetResidencyRequest()
        return await self.admin.GetResidency(request, metadata=self.admin_key)

    async def followed(self) -> None:
        """Return when the server has everything the registry told so far."""
        async with asyncio.timeout(10):
            while not (residency := await self.residency()).following:
                pass
            while residency.generation != self.registry.generation:
                residency = await self.residency()

    async def loaded(self, *names: str) -> None:
        """Return when the engine holds these versions, whoever had them loaded."""
        async with asyncio.timeout(10):
            while not set(names) <= {adapter.version for adapter in (await self.residency()).adapters}:
                pass

    async def disk_emptied(self) -> None:
        """Return when the server keeps no adapter's files."""
        async with asyncio.timeout(10):
            while any((self.folder / "serve" / "adapters").iterdir()):
                await self.residency()

    async def lost_registry(self) -> None:
        """Return when the server has noticed that the registry is gone."""
        async with asyncio.timeout(10):
            while (await self.residency()).following:
                pass

    async def idle(self) -> None:
        """Return when no request uses an adapter."""
        async with asyncio.timeout(10):
            while any(adapter.num_leases for adapter in (await self.residency()).adapters):
                pass

    async def served(self, status: str = "SERVING") -> None:
        """Return when the health service says `status`."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        async with asyncio.timeout(10):
            await self._watch_health(wanted)

    async def _watch_health(self, wanted: int) -> None:
        async for reply in self.health.Watch(health_pb2.HealthCheckRequest(service=SERVE_SERVICE)):
            if reply.status == wanted:
                return

    async def _build_engine(self) -> Engine:
        await self._may_build.wait()
        backend = PausingVllm()
        self.engines.append(backend)
        return GuardedEngine(backend, SETTINGS)


def key_of(key: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a key."""
    return (("authorization", f"Bearer {key}"),)


def question(name: str, *texts: str, **options: Any) -> serve_service_pb2.ChatRequest:
    """Return a conversation whose turns begin with the user's."""
    roles = (serve_service_pb2.ChatMessage.ROLE_USER, serve_service_pb2.ChatMessage.ROLE_ASSISTANT)
    turns = [
        serve_service_pb2.ChatMessage(role=roles[index % 2], content=text)
        for index, text in enumerate(texts or ("When do you open?",))
    ]
    return serve_service_pb2.ChatRequest(name=name, messages=turns, options=generation_pb2.GenerationOptions(**options))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of the error's one ErrorInfo."""
    return info_of(error).reason


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Return the error's ErrorInfo."""
    return _detail_of(error, error_details_pb2.ErrorInfo)


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the fields its BadRequest names."""
    return [violation.field for violation in _detail_of(error, error_details_pb2.BadRequest).field_violations]


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """Return the delay of its RetryInfo."""
    return float(_detail_of(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()) / 1000


def _detail_of(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            detail.Unpack(found)
            return found
    message = f"{error.code()} has no {kind.DESCRIPTOR.name}: {error.details()}"
    raise AssertionError(message)
