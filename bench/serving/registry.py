"""A registry for serve_svc to follow, in trainer_svc's place: real gRPC by the same contract, over adapters nobody trained.

Registering a thousand adapters with trainer_svc would take as many jobs; serving, which is measured here, meets nothing but
WatchServing and DownloadAdapter.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import grpc

from adaptory.core.adapter_check import CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.auth import digest_key, make_key
from adaptory.core.base_model import PreparedBase
from adaptory.core.digests import hash_text
from adaptory.core.names import VersionName
from adaptory.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc, serving_pb2, tenant_pb2
from bench.serving.shelf import RANK, AdapterShelf

_CHUNK_BYTES = 256 * 1024
# As the product's servers have them: a watch that is silent is kept alive by pings.
_OPTIONS = (("grpc.http2.min_ping_interval_without_data_ms", 20_000), ("grpc.http2.max_ping_strikes", 2))
# So high that load generators of one tenant never meet it.
_NO_LIMIT = 10_000
_BOT = "bot"


class BenchRegistry(
    registry_service_pb2_grpc.RegistryServiceServicer, AbstractAsyncContextManager["BenchRegistry", None]
):
    """Tenants with a bot each, one for a speaker; version n of a bot is one adapter of the shelf, and all of them may answer."""

    def __init__(self, base: PreparedBase, shelf: AdapterShelf, num_speakers: int, num_versions: int) -> None:
        """Promote the first version of every bot; the speaker 0 has `num_versions`, the others one."""
        self._base = base
        self._shelf = shelf
        self._keys = [make_key() for _ in range(num_speakers)]
        self._num_versions = num_versions
        self._production = [1] * num_speakers
        self._generation = 0
        self._changes = asyncio.Queue[serving_pb2.ServingUpdate]()
        self._server = grpc.aio.server(options=_OPTIONS)
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]  # generated
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        await self._server.stop(grace=None)

    def key_of(self, speaker: int) -> str:
        """Return the key of the speaker's tenant."""
        return self._keys[speaker]

    def bot_of(self, speaker: int) -> str:
        """Return the name of the speaker's bot."""
        return f"tenants/t{speaker}/bots/{_BOT}"

    def promote_next(self, speaker: int) -> str:
        """Promote the version behind the one that answers, and return its name."""
        self._production[speaker] += 1
        self._generation += 1
        changed = serving_pb2.ServingState(bots=[self._describe_bot(speaker)])
        delta = serving_pb2.ServingDelta(changed=changed)
        self._changes.put_nowait(serving_pb2.ServingUpdate(generation=self._generation, delta=delta))
        return f"{self.bot_of(speaker)}/versions/{self._production[speaker]}"

    async def WatchServing(  # noqa: N802 - the contract's name
        self,
        request: registry_service_pb2.WatchServingRequest,  # noqa: ARG002 - gRPC's signature
        context: Any,  # noqa: ANN401, ARG002 - the same
    ) -> AsyncIterator[serving_pb2.ServingUpdate]:
        """Send the state, then every change; one server follows."""
        yield serving_pb2.ServingUpdate(generation=self._generation, snapshot=self._describe_all())
        while True:
            yield await self._changes.get()

    async def DownloadAdapter(  # noqa: N802 - the contract's name
        self,
        request: registry_service_pb2.DownloadAdapterRequest,
        context: Any,  # noqa: ANN401, ARG002 - gRPC's signature
    ) -> AsyncIterator[registry_service_pb2.DownloadAdapterResponse]:
        """Send both files."""
        version = VersionName.parse(request.name, field="name")
        number = self._number_adapter(int(version.tenant.removeprefix("t")), version.number)
        weights = await asyncio.to_thread(self._shelf.weights_file.read_bytes)
        for name, data in ((CONFIG_FILE, self._shelf.write_config(number)), (WEIGHTS_FILE, weights)):
            for begin in range(0, len(data), _CHUNK_BYTES):
                piece = data[begin : begin + _CHUNK_BYTES]
                yield registry_service_pb2.DownloadAdapterResponse(file_name=name, data=piece)

    def _number_adapter(self, speaker: int, version: int) -> int:
        """Return the number on the shelf, which is the engine's id, too: those of first versions come before all others."""
        return speaker + 1 if version == 1 else len(self._keys) + version - 1

    def _describe_all(self) -> serving_pb2.ServingState:
        speakers = range(len(self._keys))
        versions = [self._describe_version(speaker, 1) for speaker in speakers]
        versions += [self._describe_version(0, number) for number in range(2, self._num_versions + 1)]
        return serving_pb2.ServingState(
            tenants=[self._describe_tenant(speaker) for speaker in speakers],
            bots=[self._describe_bot(speaker) for speaker in speakers],
            versions=versions,
        )

    def _describe_tenant(self, speaker: int) -> serving_pb2.ServingTenant:
        return serving_pb2.ServingTenant(
            name=f"tenants/t{speaker}",
            key_digests=[digest_key(self._keys[speaker])],
            limits=tenant_pb2.TenantLimits(max_requests_in_flight=_NO_LIMIT),
        )

    def _describe_bot(self, speaker: int) -> serving_pb2.ServingBot:
        name, production = self.bot_of(speaker), self._production[speaker]
        return serving_pb2.ServingBot(
            name=name,
            kind=bot_pb2.BOT_KIND_FAQ,
            base_model=self._base.name,
            routes=bot_pb2.Routes(
                production=f"{name}/versions/{production}",
                previous=f"{name}/versions/{production - 1}" if production > 1 else "",
            ),
        )

    def _describe_version(self, speaker: int, version: int) -> serving_pb2.ServingVersion:
        number = self._number_adapter(speaker, version)
        return serving_pb2.ServingVersion(
            name=f"{self.bot_of(speaker)}/versions/{version}",
            digest=self._shelf.digest(number),
            engine_id=number,
            rank=RANK,
            size_bytes=self._shelf.size_bytes(number),
            parity_digest=self._base.parity_digest,
            template_digest=hash_text(self._base.chat_template),
        )
