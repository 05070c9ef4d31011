"""What operators ask of a server. Takes the operator's key."""

from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.serve.v1 import serve_admin_service_pb2 as pb
from adaptory.serve.v1.serve_admin_service_pb2_grpc import ServeAdminServiceStub


class Serving:
    """The methods of ServeAdminService. Every method raises RpcFailed."""

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to serve_svc."""
        self._connection = connection
        self._admin = ServeAdminServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def get_residency(self) -> pb.Residency:
        """Return which adapters are in the engine, how many requests use each, and what else the server knows of versions."""
        return await self._connection.call(self._admin.GetResidency, pb.GetResidencyRequest())

    async def warm(self, version: str) -> pb.WarmVersionResponse:
        """Load a version's adapter now; return when it is in the engine."""
        request = pb.WarmVersionRequest(name=version)
        return await self._connection.call(self._admin.WarmVersion, request, deadline_s=LONG_DEADLINE_S)

    async def release(self, version: str) -> pb.ReleaseVersionResponse:
        """End a version's quarantine, so that its next request tries to load it; return why it was in one, if it was."""
        return await self._connection.call(self._admin.ReleaseVersion, pb.ReleaseVersionRequest(name=version))

    async def drain(self) -> pb.DrainResponse:
        """Take no new request from now on; return when the running ones have ended."""
        return await self._connection.call(self._admin.Drain, pb.DrainRequest(), deadline_s=LONG_DEADLINE_S)
