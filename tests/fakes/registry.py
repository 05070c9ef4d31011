"""A registry for servers to follow: a real gRPC server that serves WatchServing and DownloadAdapter from folders, and little else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from adaptory.core.adapter_check import ADAPTER_FILES, adapter_digest
from adaptory.core.auth import digest_key
from adaptory.core.names import VersionName
from adaptory.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc, serving_pb2, tenant_pb2

SERVER_KEY = "adk_server"

Item = serving_pb2.ServingTenant | serving_pb2.ServingBot | serving_pb2.ServingVersion


class FakeRegistry(registry_service_pb2_grpc.RegistryServiceServicer):
    """Keeps what servers must know, and tells every watcher of each change. `generation` may be set back, as by a restored backup."""

    def __init__(self) -> None:
        """Begin with no tenant, at generation 0."""
        self.generation = 0
        self.num_downloads = 0
        self.ended_canaries: list[tuple[str, str]] = []
        self._has_ended_one = asyncio.Event()
        self._items: dict[str, Item] = {}
        self._folders: dict[str, Path] = {}
        self._watchers: set[asyncio.Queue[serving_pb2.ServingUpdate]] = set()
        self._was_watched = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self.address = "127.0.0.1:0"

    async def open(self) -> None:
        """Listen, at the same port as before when it was open already."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(self.address)}"
        await self._server.start()

    async def close(self) -> None:
        """Cut every watch and stop listening."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        await self.close()

    def put_tenant(self, tenant: str, *keys: str, max_in_flight: int = 0) -> None:
        """Make `keys` the good ones of the tenant."""
        limits = tenant_pb2.TenantLimits(max_requests_in_flight=max_in_flight)
        digests = [digest_key(key) for key in keys]
        self.put(serving_pb2.ServingTenant(name=f"tenants/{tenant}", key_digests=digests, limits=limits))

    def put_bot(
        self,
        bot: str,
        *,
        base_model: str,
        production: str = "",
        previous: str = "",
        canary: str = "",
        canary_percent: int = 0,
        kind: bot_pb2.BotKind = bot_pb2.BOT_KIND_FAQ,
        answer_schema: str = "",
    ) -> None:
        """Have `tenants/{tenant}/bots/{bot}` answer by these versions, as PromoteVersion and SetCanary would."""
        routes = bot_pb2.Routes(production=production, previous=previous, canary=canary, canary_percent=canary_percent)
        self.put(
            serving_pb2.ServingBot(
                name=bot,
                kind=kind,
                base_model=base_model,
                system_prompt="You answer questions.",
                generation_defaults=bot_pb2.GenerationDefaults(max_output_tokens=16),
                routes=routes,
                answer_schema=answer_schema,
            )
        )

    def put_shadow(self, version: str) -> None:
        """Have a version asked in all conversations of its bot, as SetShadow would."""
        bot = self._items[version.rpartition("/versions/")[0]]
        assert isinstance(bot, serving_pb2.ServingBot)
        bot.routes.shadow, bot.routes.shadow_percent = version, 100
        self.put(bot)

    def put_version(self, version: serving_pb2.ServingVersion, folder: Path) -> None:
        """Register the adapter in `folder`; what the message leaves out is read there."""
        VersionName.parse(version.name, field="name")
        sizes = [(folder / name).stat().st_size for name in ADAPTER_FILES]
        version.digest = version.digest or adapter_digest(folder)
        version.size_bytes = version.size_bytes or sum(sizes)
        self._folders[version.name] = folder
        self.put(version)

    def folder_of(self, version: str) -> Path:
        """Return where the bytes of a version come from."""
        return self._folders[version]

    def replace_files(self, version: str, folder: Path) -> None:
        """Have a version's bytes come from another folder, whatever was registered."""
        self._folders[version] = folder

    def put(self, item: Item) -> None:
        """Add or replace one item and tell the watchers."""
        self._items[item.name] = item
        self._tell(serving_pb2.ServingDelta(changed=_state_of([item])))

    def remove(self, *names: str) -> None:
        """Take items away and tell the watchers."""
        for name in names:
            del self._items[name]
        self._tell(serving_pb2.ServingDelta(removed=names))

    async def canary_ended(self) -> list[tuple[str, str]]:
        """Return the name of each canary that a server has ended, and why, once there is one."""
        async with asyncio.timeout(10):
            await self._has_ended_one.wait()
        return self.ended_canaries

    async def watched(self) -> None:
        """Return when a watch has been sent the state and has ended or waits for changes."""
        await self._was_watched.wait()

    async def WatchServing(self, request: object, context: Any) -> AsyncIterator[serving_pb2.ServingUpdate]:
        """Send the state, then every change."""
        await _authenticate(context)
        changes: asyncio.Queue[serving_pb2.ServingUpdate] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            yield serving_pb2.ServingUpdate(generation=self.generation, snapshot=_state_of(self._items.values()))
            self._was_watched.set()
            while True:
                yield await changes.get()
        finally:
            self._was_watched.set()
            self._watchers.discard(changes)

    async def DownloadAdapter(
        self, request: registry_service_pb2.DownloadAdapterRequest, context: Any
    ) -> AsyncIterator[registry_service_pb2.DownloadAdapterResponse]:
        """Send both files in pieces of 64 KiB."""
        await _authenticate(context)
        self.num_downloads += 1
        for name in ADAPTER_FILES:
            data = (self._folders[request.name] / name).read_bytes()
            for begin in range(0, len(data), 65536):
                piece = data[begin : begin + 65536]
                yield registry_service_pb2.DownloadAdapterResponse(file_name=name, data=piece)

    async def EndCanary(
        self, request: registry_service_pb2.EndCanaryRequest, context: Any
    ) -> registry_service_pb2.EndCanaryResponse:
        """Take the canary off its bot's routes, and remember why."""
        await _authenticate(context)
        self.ended_canaries.append((request.name, request.reason))
        self._has_ended_one.set()
        bot = self._items[request.name.rpartition("/versions/")[0]]
        assert isinstance(bot, serving_pb2.ServingBot)
        if bot.routes.canary == request.name:
            bot.routes.canary, bot.routes.canary_percent = "", 0
            self.put(bot)
        return registry_service_pb2.EndCanaryResponse()

    def _tell(self, delta: serving_pb2.ServingDelta) -> None:
        self.generation += 1
        for changes in self._watchers:
            changes.put_nowait(serving_pb2.ServingUpdate(generation=self.generation, delta=delta))


def _state_of(items: Any) -> serving_pb2.ServingState:
    state = serving_pb2.ServingState()
    places: dict[type, Any] = {
        serving_pb2.ServingTenant: state.tenants,
        serving_pb2.ServingBot: state.bots,
        serving_pb2.ServingVersion: state.versions,
    }
    for item in items:
        places[type(item)].append(item)
    return state


async def _authenticate(context: Any) -> None:
    if dict(context.invocation_metadata()).get("authorization") != f"Bearer {SERVER_KEY}":
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not the server's key")
