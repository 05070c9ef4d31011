"""Waits until a service says that it serves, over the standard health protocol, which needs no key."""

import asyncio
from contextlib import aclosing

import grpc
from grpc_health.v1 import health_pb2

from adaptory.client.connection import Connection
from adaptory.client.errors import RpcFailed, is_interruption
from adaptory.client.patience import Patience

_ENDLESS = Patience(first_s=0.1, longest_s=1.0)


async def wait_until_serving(connection: Connection, service: str, *, deadline_s: float) -> None:
    """Return when the gRPC service called `service` serves. Raises RpcFailed (DEADLINE_EXCEEDED) when it does not in time."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await _watch(connection, service):
                await _ENDLESS.wait_after(1)
    except TimeoutError as error:
        message = (
            f"{connection.address} does not serve {service} after {deadline_s:g} s. Its log says what it waits for."
        )
        raise RpcFailed(grpc.StatusCode.DEADLINE_EXCEEDED, message, reason="NOT_SERVING") from error


async def _watch(connection: Connection, service: str) -> bool:
    health = connection.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        async with aclosing(connection.stream(health, request, deadline_s=None)) as replies:
            async for reply in replies:
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return True
    except RpcFailed as failure:
        if not is_interruption(failure):
            raise
    return False
