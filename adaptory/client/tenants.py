"""Tenants and their keys. All but `get` take the operator's key."""

from collections.abc import AsyncIterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from adaptory.client.connection import Connection
from adaptory.client.pages import walk_pages
from adaptory.registry.v1 import registry_service_pb2 as pb
from adaptory.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from adaptory.registry.v1.tenant_pb2 import ApiKey, Tenant, TenantLimits


class Tenants:
    """The RegistryService methods of tenants and keys. Every method raises RpcFailed."""

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to trainer_svc."""
        self._connection = connection
        self._registry = RegistryServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def create(self, tenant_id: str, *, display_name: str = "", max_requests_in_flight: int = 0) -> Tenant:
        """Create a tenant; `max_requests_in_flight` 0 takes the service's default."""
        limits = TenantLimits(max_requests_in_flight=max_requests_in_flight)
        tenant = Tenant(display_name=display_name, limits=limits)
        request = pb.CreateTenantRequest(tenant_id=tenant_id, tenant=tenant)
        return await self._connection.call(self._registry.CreateTenant, request)

    async def get(self, name: str) -> Tenant:
        """Return `tenants/{tenant}`."""
        return await self._connection.call(self._registry.GetTenant, pb.GetTenantRequest(name=name))

    async def list_all(self) -> AsyncIterator[Tenant]:
        """Yield every tenant by id."""

        async def fetch(token: str) -> pb.ListTenantsResponse:
            return await self._connection.call(self._registry.ListTenants, pb.ListTenantsRequest(page_token=token))

        async for tenant in walk_pages(fetch, lambda page: page.tenants):
            yield tenant

    async def update(self, tenant: Tenant, paths: Sequence[str]) -> Tenant:
        """Change those fields of the tenant `tenant.name` that `paths` name, such as `limits.tokens_per_day`, and no others."""
        request = pb.UpdateTenantRequest(tenant=tenant, update_mask=FieldMask(paths=paths))
        return await self._connection.call(self._registry.UpdateTenant, request)

    async def create_key(self, tenant: str, *, display_name: str = "") -> ApiKey:
        """Issue a key for `tenants/{tenant}`; the only answer that ever holds its `secret`."""
        request = pb.CreateApiKeyRequest(parent=tenant, display_name=display_name)
        return await self._connection.call(self._registry.CreateApiKey, request)

    async def list_keys(self, tenant: str) -> AsyncIterator[ApiKey]:
        """Yield the keys of `tenants/{tenant}`, revoked ones too, without their secrets."""

        async def fetch(token: str) -> pb.ListApiKeysResponse:
            request = pb.ListApiKeysRequest(parent=tenant, page_token=token)
            return await self._connection.call(self._registry.ListApiKeys, request)

        async for key in walk_pages(fetch, lambda page: page.api_keys):
            yield key

    async def revoke_key(self, name: str) -> ApiKey:
        """Revoke `tenants/{tenant}/apiKeys/{id}` for ever."""
        return await self._connection.call(self._registry.RevokeApiKey, pb.RevokeApiKeyRequest(name=name))
