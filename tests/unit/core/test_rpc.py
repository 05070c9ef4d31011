"""The interceptor, through a real server and a real channel."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from adaptory.core.auth import Caller, Role, current_caller, digest_key
from adaptory.core.errors import Busy, InvalidRequest
from adaptory.core.rpc import Interceptor
from adaptory.core.server import Server, Service
from adaptory.core.settings import ServiceSettings
from adaptory.core.telemetry import GrpcMetrics
from adaptory.registry.v1 import registry_service_pb2 as pb
from adaptory.registry.v1 import registry_service_pb2_grpc as pb_grpc
from adaptory.registry.v1.tenant_pb2 import Tenant

KEY = (("authorization", "Bearer good"),)
SECRET = "password=hunter2"


class Servicer(pb_grpc.RegistryServiceServicer):
    """Misbehaves as asked."""

    async def GetTenant(self, request: pb.GetTenantRequest, context: object) -> Tenant:
        """Say who calls, or fail."""
        if request.name == "boom":
            raise ValueError(SECRET)
        if request.name == "busy":
            raise Busy("Full.", metadata={"limit": 3}, retry_after_s=1.5)
        if request.name == "bad":
            raise InvalidRequest.of_field("name", "is bad; send a good one", length=3)
        return Tenant(name=str(current_caller.get().tenant))

    def __init__(self) -> None:
        """Begin with no endless stream."""
        self.stopped = asyncio.Event()

    async def DownloadAdapter(
        self, request: pb.DownloadAdapterRequest, context: object
    ) -> AsyncIterator[pb.DownloadAdapterResponse]:
        """Fail after one message, or send without an end, and tell when it is stopped."""
        if request.name == "endless":
            try:
                while True:
                    yield pb.DownloadAdapterResponse(data=bytes(1 << 20))
            finally:
                self.stopped.set()
        yield pb.DownloadAdapterResponse(file_name="first")
        raise ValueError(SECRET)


class Keys:
    """Knows one key."""

    async def find_caller(self, key_digest: str) -> Caller | None:
        """Return the owner of the good key."""
        return Caller(Role.TENANT, "acme") if key_digest == digest_key("good") else None


@pytest.fixture
def metrics() -> CollectorRegistry:
    """A registry of its own."""
    return CollectorRegistry()


@pytest.fixture
def servicer() -> Servicer:
    """The one behind the stub."""
    return Servicer()


@pytest.fixture
async def stub(metrics: CollectorRegistry, servicer: Servicer) -> AsyncIterator[pb_grpc.RegistryServiceStub]:
    """A stub of a server with the interceptor; tenants may call all but CreateTenant."""
    service = Service(
        pb.DESCRIPTOR.services_by_name["RegistryService"],
        lambda server: pb_grpc.add_RegistryServiceServicer_to_server(servicer, server),
    )
    access = {method: frozenset({Role.TENANT}) for method in service.methods if not method.endswith("CreateTenant")}
    counted = GrpcMetrics(metrics, service.methods)
    interceptor = Interceptor(keyring=Keys(), access=access, metrics=counted, max_write_s=0.2)
    server = Server(ServiceSettings(drain_seconds=0), [service], interceptor)
    address = await server.open()
    async with grpc.aio.insecure_channel(address) as channel:
        yield pb_grpc.RegistryServiceStub(channel)
    await server.drain()


async def fail(call: object) -> grpc.aio.AioRpcError:
    """Return the error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call  # type: ignore[misc]
    return failed.value


async def read_to_end(stream: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    """Read and forget what the stream still has."""
    while await stream.read():
        pass


async def test_an_unexpected_error_shows_an_id_and_nothing_else(stub: pb_grpc.RegistryServiceStub) -> None:
    """The text of the exception stays in the log."""
    error = await fail(stub.GetTenant(pb.GetTenantRequest(name="boom"), metadata=KEY))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(error)


async def test_an_unexpected_error_in_a_stream_shows_nothing_either(stub: pb_grpc.RegistryServiceStub) -> None:
    """What was sent before arrives; then the fixed text."""
    stream = stub.DownloadAdapter(pb.DownloadAdapterRequest(), metadata=KEY)
    first = await stream.read()

    error = await fail(stream.read())

    assert first.file_name == "first"
    assert error.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(error)


async def test_a_busy_error_says_when_to_retry(stub: pb_grpc.RegistryServiceStub) -> None:
    """RESOURCE_EXHAUSTED carries its reason, numbers and RetryInfo."""
    status = rpc_status.from_call(await fail(stub.GetTenant(pb.GetTenantRequest(name="busy"), metadata=KEY)))  # type: ignore[arg-type]

    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.metadata["limit"], retry.retry_delay.ToMilliseconds()) == ("BUSY", "3", 1500)


async def test_a_bad_field_is_named(stub: pb_grpc.RegistryServiceStub) -> None:
    """INVALID_ARGUMENT carries a BadRequest."""
    status = rpc_status.from_call(await fail(stub.GetTenant(pb.GetTenantRequest(name="bad"), metadata=KEY)))  # type: ignore[arg-type]

    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "name"


async def test_the_servicer_sees_the_owner_of_the_key(stub: pb_grpc.RegistryServiceStub) -> None:
    """The tenant comes from the key."""
    tenant = await stub.GetTenant(pb.GetTenantRequest(), metadata=KEY)

    assert tenant.name == "acme"


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "good"),)])
async def test_a_call_without_a_good_key_is_refused(
    stub: pb_grpc.RegistryServiceStub, metadata: tuple[tuple[str, str], ...]
) -> None:
    """No key, an unknown key and a bare key are all UNAUTHENTICATED."""
    error = await fail(stub.GetTenant(pb.GetTenantRequest(), metadata=metadata))

    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_method_without_a_row_is_refused_to_all(stub: pb_grpc.RegistryServiceStub) -> None:
    """Access is by list: what nobody thought of is closed."""
    error = await fail(stub.CreateTenant(pb.CreateTenantRequest(), metadata=KEY))

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_calls_are_counted_by_code(stub: pb_grpc.RegistryServiceStub, metrics: CollectorRegistry) -> None:
    """A failed call counts under the code the client saw."""
    await fail(stub.GetTenant(pb.GetTenantRequest(name="busy"), metadata=KEY))

    labels = {
        "grpc_type": "unary",
        "grpc_service": "adaptory.registry.v1.RegistryService",
        "grpc_method": "GetTenant",
        "grpc_code": "ResourceExhausted",
    }
    assert metrics.get_sample_value("grpc_server_handled_total", labels) == 1


async def test_a_stream_that_nobody_reads_is_ended(stub: pb_grpc.RegistryServiceStub, servicer: Servicer) -> None:
    """The method stops soon after the buffers are full; who reads again finds what was sent, and why there is no more."""
    stream = stub.DownloadAdapter(pb.DownloadAdapterRequest(name="endless"), metadata=KEY)
    await stream.read()

    await servicer.stopped.wait()

    error = await fail(read_to_end(stream))
    assert error.code() is grpc.StatusCode.ABORTED
    assert "0.2 s" in str(error.details())


async def test_a_caller_that_leaves_stops_its_stream(
    stub: pb_grpc.RegistryServiceStub, servicer: Servicer, metrics: CollectorRegistry
) -> None:
    """Amid a write as well; nothing counts as the service's failure."""
    for num_read in range(1, 20):
        servicer.stopped.clear()
        stream = stub.DownloadAdapter(pb.DownloadAdapterRequest(name="endless"), metadata=KEY)
        for _ in range(num_read):
            await stream.read()
        stream.cancel()
        await servicer.stopped.wait()

    codes = {
        sample.labels["grpc_code"]
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "grpc_server_handled_total" and sample.value
    }
    assert codes <= {"Cancelled", "Aborted"}  # the latter where a busy machine reads no faster than a slow caller


async def test_a_second_server_on_the_port_is_refused() -> None:
    """Two servers never share a port silently."""
    interceptor = Interceptor(keyring=Keys(), access={}, metrics=None, max_write_s=1.0)  # type: ignore[arg-type]
    first = Server(ServiceSettings(drain_seconds=0), [], interceptor)
    address = await first.open()
    second = Server(ServiceSettings(address=address), [], interceptor)

    with pytest.raises(InvalidRequest, match="another process has the port"):
        await second.open()

    await first.drain()
