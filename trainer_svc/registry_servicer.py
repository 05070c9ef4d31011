"""The RegistryService of the contract: each method reads its request, asks one noun of the registry, and writes the answer.

Servicers raise; `adaptory.core.rpc` turns what they raise into a status.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from typing import Any

import grpc

from adaptory.core.adapter_check import ADAPTER_FILES
from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import FailedPrecondition, NotFound
from adaptory.core.names import ApiKeyName, BotName, DatasetName, TenantName, VersionName
from adaptory.registry.v1 import (
    bot_pb2,
    dataset_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
    serving_pb2,
    tenant_pb2,
    version_pb2,
)
from trainer_svc import registry_convert as convert
from trainer_svc import registry_requests as requests
from trainer_svc.edge import name_caller, read_name, read_request_key, require_operator
from trainer_svc.import_requests import read_import
from trainer_svc.registry.artifacts import CHUNK_BYTES
from trainer_svc.registry.pages import PageRequest
from trainer_svc.registry.registry import Registry
from trainer_svc.tenant_requests import read_new_tenant, read_tenant_change

Context = grpc.aio.ServicerContext[Any, Any]


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Answers the registry's calls."""

    def __init__(self, registry: Registry, find_base: Callable[[str], PreparedBase], *, default_base: str) -> None:
        """Take the registry, how a prepared base is found by its name in the catalogue, and which one measures data by default."""
        self._registry = registry
        self._find_base = find_base
        self._default_base = default_base

    async def CreateTenant(
        self, request: registry_service_pb2.CreateTenantRequest, _context: Context
    ) -> tenant_pb2.Tenant:
        """Create a tenant."""
        name, limits = read_new_tenant(request)
        display_name = request.tenant.display_name
        return convert.write_tenant(await self._registry.tenants.create(name, display_name=display_name, limits=limits))

    async def GetTenant(self, request: registry_service_pb2.GetTenantRequest, _context: Context) -> tenant_pb2.Tenant:
        """Return a tenant."""
        return convert.write_tenant(await self._registry.tenants.get(read_name(TenantName, request.name)))

    async def ListTenants(
        self, request: registry_service_pb2.ListTenantsRequest, _context: Context
    ) -> registry_service_pb2.ListTenantsResponse:
        """List tenants."""
        page = await self._registry.tenants.list(
            PageRequest.parse(request.page_size, request.page_token, scope="tenants")
        )
        return registry_service_pb2.ListTenantsResponse(
            tenants=[convert.write_tenant(tenant) for tenant in page.items], next_page_token=page.next_token
        )

    async def UpdateTenant(
        self, request: registry_service_pb2.UpdateTenantRequest, _context: Context
    ) -> tenant_pb2.Tenant:
        """Change what the mask names."""
        return convert.write_tenant(await self._registry.tenants.change(read_tenant_change(request)))

    async def CreateApiKey(
        self, request: registry_service_pb2.CreateApiKeyRequest, _context: Context
    ) -> tenant_pb2.ApiKey:
        """Issue a key."""
        tenant = read_name(TenantName, request.parent, field="parent")
        requests.check_display_name(request.display_name)
        return convert.write_api_key(await self._registry.keys.create(tenant, display_name=request.display_name))

    async def ListApiKeys(
        self, request: registry_service_pb2.ListApiKeysRequest, _context: Context
    ) -> registry_service_pb2.ListApiKeysResponse:
        """List a tenant's keys."""
        tenant = read_name(TenantName, request.parent, field="parent")
        page = await self._registry.keys.list(
            tenant, PageRequest.parse(request.page_size, request.page_token, scope=f"{tenant}/apiKeys")
        )
        return registry_service_pb2.ListApiKeysResponse(
            api_keys=[convert.write_api_key(key) for key in page.items], next_page_token=page.next_token
        )

    async def RevokeApiKey(
        self, request: registry_service_pb2.RevokeApiKeyRequest, _context: Context
    ) -> tenant_pb2.ApiKey:
        """Revoke a key."""
        return convert.write_api_key(await self._registry.keys.revoke(read_name(ApiKeyName, request.name)))

    async def CreateDataset(
        self, request: registry_service_pb2.CreateDatasetRequest, _context: Context
    ) -> dataset_pb2.Dataset:
        """Begin an upload."""
        tenant = read_name(TenantName, request.parent, field="parent")
        draft = requests.read_new_dataset(request.dataset)
        key = read_request_key(request, tenant=tenant, request_id=request.request_id)
        return convert.write_dataset(await self._registry.datasets.create(draft, key))

    async def AppendDatasetChunk(
        self, request: registry_service_pb2.AppendDatasetChunkRequest, _context: Context
    ) -> dataset_pb2.Dataset:
        """Append bytes."""
        name = read_name(DatasetName, request.name)
        requests.check_chunk(request)
        dataset = await self._registry.uploads.append(name, offset=request.offset, data=request.data)
        return convert.write_dataset(dataset)

    async def FinalizeDataset(
        self, request: registry_service_pb2.FinalizeDatasetRequest, _context: Context
    ) -> dataset_pb2.Dataset:
        """End an upload."""
        name = read_name(DatasetName, request.name)
        base = await asyncio.to_thread(self._find_ruler, request.base_model)
        return convert.write_dataset(await self._registry.uploads.finalize(name, digest=request.digest, base=base))

    async def GetDataset(
        self, request: registry_service_pb2.GetDatasetRequest, _context: Context
    ) -> dataset_pb2.Dataset:
        """Return a dataset."""
        return convert.write_dataset(await self._registry.datasets.get(read_name(DatasetName, request.name)))

    async def ListDatasets(
        self, request: registry_service_pb2.ListDatasetsRequest, _context: Context
    ) -> registry_service_pb2.ListDatasetsResponse:
        """List a tenant's datasets."""
        tenant = read_name(TenantName, request.parent, field="parent")
        page = await self._registry.datasets.list(
            tenant, PageRequest.parse(request.page_size, request.page_token, scope=f"{tenant}/datasets")
        )
        return registry_service_pb2.ListDatasetsResponse(
            datasets=[convert.write_dataset(dataset) for dataset in page.items], next_page_token=page.next_token
        )

    async def CreateBot(self, request: registry_service_pb2.CreateBotRequest, _context: Context) -> bot_pb2.Bot:
        """Create a bot."""
        tenant = read_name(TenantName, request.parent, field="parent")
        if request.bot.answer_schema:
            require_operator("bot.answer_schema")
        draft = requests.read_new_bot(request, tenant)
        await asyncio.to_thread(self._find_base, draft.base_model)
        return convert.write_bot(await self._registry.bots.create(draft))

    async def GetBot(self, request: registry_service_pb2.GetBotRequest, _context: Context) -> bot_pb2.Bot:
        """Return a bot."""
        return convert.write_bot(await self._registry.bots.get(read_name(BotName, request.name)))

    async def ListBots(
        self, request: registry_service_pb2.ListBotsRequest, _context: Context
    ) -> registry_service_pb2.ListBotsResponse:
        """List a tenant's bots."""
        tenant = read_name(TenantName, request.parent, field="parent")
        page = await self._registry.bots.list(
            tenant, PageRequest.parse(request.page_size, request.page_token, scope=f"{tenant}/bots")
        )
        return registry_service_pb2.ListBotsResponse(
            bots=[convert.write_bot(bot) for bot in page.items], next_page_token=page.next_token
        )

    async def SetAnswerSchema(
        self, request: registry_service_pb2.SetAnswerSchemaRequest, _context: Context
    ) -> bot_pb2.Bot:
        """Pin the schema of a bot's answers."""
        name = read_name(BotName, request.name)
        schema = await asyncio.to_thread(requests.read_answer_schema, request)
        return convert.write_bot(await self._registry.bots.set_answer_schema(name, schema))

    async def GetVersion(
        self, request: registry_service_pb2.GetVersionRequest, _context: Context
    ) -> version_pb2.Version:
        """Return a version."""
        return convert.write_version(await self._registry.versions.get(read_name(VersionName, request.name)))

    async def ListVersions(
        self, request: registry_service_pb2.ListVersionsRequest, _context: Context
    ) -> registry_service_pb2.ListVersionsResponse:
        """List a bot's versions."""
        bot = read_name(BotName, request.parent, field="parent")
        page = await self._registry.versions.list(
            bot, PageRequest.parse(request.page_size, request.page_token, scope=f"{bot}/versions")
        )
        return registry_service_pb2.ListVersionsResponse(
            versions=[convert.write_version(version) for version in page.items], next_page_token=page.next_token
        )

    async def PromoteVersion(
        self, request: registry_service_pb2.PromoteVersionRequest, _context: Context
    ) -> bot_pb2.Bot:
        """Make a version answer."""
        name = read_name(VersionName, request.name)
        reason = requests.read_override_reason(request)
        routes = self._registry.routes
        return convert.write_bot(
            await routes.promote(name, etag=request.etag, caller=name_caller(), override_reason=reason)
        )

    async def SetCanary(self, request: registry_service_pb2.SetCanaryRequest, _context: Context) -> bot_pb2.Bot:
        """Let a version answer a share of the conversations."""
        name, percent = read_name(VersionName, request.name), requests.read_percent(request)
        return convert.write_bot(await self._registry.routes.set_canary(name, percent=percent, etag=request.etag))

    async def SetShadow(self, request: registry_service_pb2.SetShadowRequest, _context: Context) -> bot_pb2.Bot:
        """Have a version asked beside production in a share of the conversations."""
        name, percent = read_name(VersionName, request.name), requests.read_percent(request)
        return convert.write_bot(await self._registry.routes.set_shadow(name, percent=percent, etag=request.etag))

    async def EndCanary(
        self, request: registry_service_pb2.EndCanaryRequest, _context: Context
    ) -> registry_service_pb2.EndCanaryResponse:
        """End a canary that a server found worse than production."""
        name, reason = read_name(VersionName, request.name), requests.read_end_reason(request)
        await self._registry.routes.end_canary(name, reason=reason)
        return registry_service_pb2.EndCanaryResponse()

    async def RollbackBot(self, request: registry_service_pb2.RollbackBotRequest, _context: Context) -> bot_pb2.Bot:
        """Let the version before answer again."""
        name = read_name(BotName, request.name)
        return convert.write_bot(await self._registry.routes.roll_back(name, etag=request.etag))

    async def RetireVersion(
        self, request: registry_service_pb2.RetireVersionRequest, _context: Context
    ) -> version_pb2.Version:
        """Take a version out of use."""
        name = read_name(VersionName, request.name)
        return convert.write_version(await self._registry.routes.retire(name, etag=request.etag))

    async def DownloadAdapter(
        self, request: registry_service_pb2.DownloadAdapterRequest, _context: Context
    ) -> AsyncIterator[registry_service_pb2.DownloadAdapterResponse]:
        """Stream an adapter's files."""
        version = await self._registry.versions.get(read_name(VersionName, request.name))
        for file_name in ADAPTER_FILES:
            with closing(
                await asyncio.to_thread(self._registry.artifacts.open, version.draft.files[file_name])
            ) as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield registry_service_pb2.DownloadAdapterResponse(file_name=file_name, data=chunk)

    async def ImportAdapter(
        self, request: registry_service_pb2.ImportAdapterRequest, _context: Context
    ) -> version_pb2.Version:
        """Register an adapter that was trained elsewhere, or say what it would be."""
        bot = read_name(BotName, request.parent, field="parent")
        order, importer = read_import(request, bot), self._registry.importer
        key = read_request_key(request, tenant=TenantName(bot.tenant), request_id=request.request_id)
        if request.validate_only:
            return convert.write_version_draft(await importer.check(order))
        # Before the files are read again: a retry is to be cheap.
        made = await importer.find_made(key)
        return convert.write_version(made or await importer.register(order, key))

    async def WatchServing(
        self, _request: registry_service_pb2.WatchServingRequest, _context: Context
    ) -> AsyncIterator[serving_pb2.ServingUpdate]:
        """Stream what servers must know."""
        async with aclosing(self._registry.feed.watch()) as updates:
            async for update in updates:
                yield convert.write_update(update)

    def _find_ruler(self, base_model: str) -> PreparedBase | None:
        """Return the base that measures data: the one that is named, or the default where that is prepared."""
        if base_model:
            return self._find_base(base_model)
        try:
            return self._find_base(self._default_base)
        except (NotFound, FailedPrecondition):
            return None  # the report has no base and no tokens then
