"""Bots, their versions, and which version answers."""

import uuid
from collections.abc import AsyncIterator

from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.client.pages import walk_pages
from adaptory.registry.v1 import registry_service_pb2 as pb
from adaptory.registry.v1.bot_pb2 import Bot
from adaptory.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from adaptory.registry.v1.version_pb2 import Version


class Bots:
    """The RegistryService methods of bots and versions. Every method raises RpcFailed."""

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to trainer_svc."""
        self._connection = connection
        self._registry = RegistryServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def create(self, tenant: str, bot_id: str, bot: Bot) -> Bot:
        """Create `tenants/{tenant}/bots/{bot_id}`; `bot` needs `kind` and `base_model`."""
        request = pb.CreateBotRequest(parent=tenant, bot_id=bot_id, bot=bot)
        return await self._connection.call(self._registry.CreateBot, request)

    async def get(self, name: str) -> Bot:
        """Return `tenants/{tenant}/bots/{bot}` with its routes."""
        return await self._connection.call(self._registry.GetBot, pb.GetBotRequest(name=name))

    async def list_all(self, tenant: str) -> AsyncIterator[Bot]:
        """Yield the bots of `tenants/{tenant}` by id."""

        async def fetch(token: str) -> pb.ListBotsResponse:
            return await self._connection.call(
                self._registry.ListBots, pb.ListBotsRequest(parent=tenant, page_token=token)
            )

        async for bot in walk_pages(fetch, lambda page: page.bots):
            yield bot

    async def set_answer_schema(self, name: str, schema: str) -> Bot:
        """Pin the JSON schema, as text, that every answer of a bot conforms to; an empty text frees its answers. The operator's."""
        request = pb.SetAnswerSchemaRequest(name=name, answer_schema=schema)
        return await self._connection.call(self._registry.SetAnswerSchema, request)

    async def get_version(self, name: str) -> Version:
        """Return `tenants/{tenant}/bots/{bot}/versions/{n}` with its lineage and scores."""
        return await self._connection.call(self._registry.GetVersion, pb.GetVersionRequest(name=name))

    async def import_adapter(
        self,
        bot: str,
        dataset: str,
        *,
        origin: str = "",
        judging_dataset: str = "",
        memory_limit_bytes: int = 0,
        validate_only: bool = False,
    ) -> Version:
        """Make a version of an adapter that `datasets.upload_adapter` has sent; with `judging_dataset` a job judges it by its rows.

        It is UNJUDGED until then: watch `lineage.training_job`. With `validate_only` it is returned as it would be, without a name.
        """
        request = pb.ImportAdapterRequest(
            parent=bot,
            dataset=dataset,
            origin=origin,
            judging_dataset=judging_dataset,
            memory_limit_bytes=memory_limit_bytes,
            validate_only=validate_only,
            request_id=str(uuid.uuid4()),
        )
        return await self._connection.call(self._registry.ImportAdapter, request, deadline_s=LONG_DEADLINE_S)

    async def list_versions(self, bot: str) -> AsyncIterator[Version]:
        """Yield the versions of a bot, newest first."""

        async def fetch(token: str) -> pb.ListVersionsResponse:
            request = pb.ListVersionsRequest(parent=bot, page_token=token)
            return await self._connection.call(self._registry.ListVersions, request)

        async for version in walk_pages(fetch, lambda page: page.versions):
            yield version

    async def promote(self, version: str, *, etag: str = "", override_gate_reason: str = "") -> Bot:
        """Make a READY version the one that answers; with `etag` only if the routes are still those you saw.

        A version that the gate REJECTED needs a reason to override it, which is kept with the version.
        """
        request = pb.PromoteVersionRequest(name=version, etag=etag, override_gate_reason=override_gate_reason)
        return await self._connection.call(self._registry.PromoteVersion, request)

    async def set_canary(self, version: str, percent: int, *, etag: str = "") -> Bot:
        """Let a READY version answer so many percent of the conversations; 0 ends it. `etag` as in `promote`."""
        request = pb.SetCanaryRequest(name=version, percent=percent, etag=etag)
        return await self._connection.call(self._registry.SetCanary, request)

    async def set_shadow(self, version: str, percent: int, *, etag: str = "") -> Bot:
        """Have a READY version asked, but not heard, in so many percent of the conversations; 0 ends it. `etag` as in `promote`."""
        request = pb.SetShadowRequest(name=version, percent=percent, etag=etag)
        return await self._connection.call(self._registry.SetShadow, request)

    async def roll_back(self, bot: str, *, etag: str = "") -> Bot:
        """Make the version that answered before answer again."""
        return await self._connection.call(self._registry.RollbackBot, pb.RollbackBotRequest(name=bot, etag=etag))

    async def retire(self, version: str, *, etag: str = "") -> Version:
        """Take a version out of use for ever that does not answer, nor is a canary or a shadow. `etag` as in `promote`."""
        request = pb.RetireVersionRequest(name=version, etag=etag)
        return await self._connection.call(self._registry.RetireVersion, request)
