"""What tenants used."""

from collections.abc import AsyncIterator

from adaptory.client.connection import Connection
from adaptory.client.pages import walk_pages
from adaptory.registry.v1 import usage_service_pb2 as pb
from adaptory.registry.v1.usage_service_pb2_grpc import UsageServiceStub


class UsageBook:
    """What UsageService tells tenants and operators. Raises RpcFailed."""

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to trainer_svc."""
        self._connection = connection
        self._usage = UsageServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def list_all(
        self, tenant: str, *, bot: str = "", first_day: str = "", last_day: str = ""
    ) -> AsyncIterator[pb.Usage]:
        """Yield what each version of `tenants/{tenant}` used on each UTC day, by day; of one bot and from day to day where told so.

        The operator's key may ask for `tenants/-`, all of them. Days are `YYYY-MM-DD`, both included.
        """

        async def fetch(token: str) -> pb.ListUsageResponse:
            request = pb.ListUsageRequest(
                parent=tenant, bot=bot, first_day=first_day, last_day=last_day, page_token=token
            )
            return await self._connection.call(self._usage.ListUsage, request)

        async for usage in walk_pages(fetch, lambda page: page.usage):
            yield usage
