"""Every method of the contract against every kind of caller."""

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from adaptory.core.auth import Role
from adaptory.serve.v1 import serve_admin_service_pb2, serve_service_pb2
from serve_svc.access import ACCESS
from tests.fakes.server import SERVE_SERVICE, Stage, key_of

METHODS = {
    f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
    for service in (
        serve_service_pb2.DESCRIPTOR.services_by_name["ServeService"],
        serve_admin_service_pb2.DESCRIPTOR.services_by_name["ServeAdminService"],
    )
    for method in service.methods
}
DRAIN = "/adaptory.serve.v1.ServeAdminService/Drain"


def test_every_method_has_a_row() -> None:
    """A method that is added to the contract is refused to everybody until somebody decides who may call it."""
    assert {name for name in ACCESS if name.startswith("/")} == METHODS.keys()


async def code_of(stage: Stage, method: str, key: str | None) -> grpc.StatusCode:
    """Return the code that an empty request ends with."""
    channel = stage.channel.unary_unary(method, request_serializer=lambda request: request.SerializeToString())
    try:
        await channel(METHODS[method](), metadata=key_of(key) if key else ())
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_each_role_is_let_in_where_its_row_says_and_nowhere_else(stage: Stage) -> None:
    """Role by role and method by method: refused are no key, an unknown key, and the roles that the row leaves out."""
    stage.add_bot("tenants/acme/bots/faq", key="adk_acme")
    await stage.followed()
    keys = {Role.TENANT: "adk_acme", Role.ADMIN: stage.admin_key[0][1].removeprefix("Bearer ")}

    for method in sorted(METHODS, key=lambda method: method == DRAIN):  # the drain comes last
        assert await code_of(stage, method, None) is grpc.StatusCode.UNAUTHENTICATED
        assert await code_of(stage, method, "adk_guess") is grpc.StatusCode.UNAUTHENTICATED
        for role, key in keys.items():
            is_denied = await code_of(stage, method, key) is grpc.StatusCode.PERMISSION_DENIED
            assert is_denied == (role not in ACCESS[method]), (method, role)


@pytest.mark.parametrize("metadata", [(), key_of("adk_guess")])
async def test_health_needs_no_key(stage: Stage, metadata: tuple[tuple[str, str], ...]) -> None:
    """Load balancers hold no key, and a wrong one is not looked at: the check answers where every other call is refused."""
    stage.add_bot("tenants/acme/bots/faq", key="adk_acme")
    await stage.served()

    reply = await stage.health.Check(health_pb2.HealthCheckRequest(service=SERVE_SERVICE), metadata=metadata)

    assert reply.status == health_pb2.HealthCheckResponse.SERVING
