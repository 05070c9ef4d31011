"""Builds, opens and drains one gRPC server: credentials, limits, health, reflection. Knows no service by name."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from adaptory.core.errors import InvalidRequest
from adaptory.core.rpc import Interceptor
from adaptory.core.settings import ServiceSettings, is_loopback, split_address

_OPTIONS = (
    # By default a second server binds the same port silently and takes half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_concurrent_streams", 1_000),
)


@dataclass(frozen=True, slots=True)
class Service:
    """One gRPC service: what it is called, and how its servicer is added to a server."""

    descriptor: ServiceDescriptor
    add_to: Callable[[grpc.aio.Server], None]

    @property
    def methods(self) -> list[str]:
        """Return the full names of its methods, `/package.Service/Method`."""
        return [f"/{self.descriptor.full_name}/{method.name}" for method in self.descriptor.methods]


class Server:
    """One listening gRPC server. Health is NOT_SERVING until `set_serving`; the empty service name tells of the process."""

    def __init__(self, settings: ServiceSettings, services: Sequence[Service], interceptor: Interceptor) -> None:
        """Assemble; nothing listens yet."""
        self._settings = settings
        self._names = [service.descriptor.full_name for service in services]
        options = (*_OPTIONS, ("grpc.max_receive_message_length", settings.max_message_bytes))
        self._server = grpc.aio.server(interceptors=(interceptor,), options=options)
        self.is_serving = False
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in services:
            service.add_to(self._server)
        if is_loopback(settings.address):
            reflection.enable_server_reflection(
                (*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
                self._server,
            )

    async def open(self) -> str:
        """Bind and listen; return the HOST:PORT bound. Raises InvalidRequest when the port is taken or a TLS file cannot be read."""
        host, _ = split_address(self._settings.address)
        port = self._bind()
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self.set_serving(serving=False)
        return f"{host}:{port}"

    async def set_serving(self, *, serving: bool) -> None:
        """Tell load balancers whether calls are answered."""
        self.is_serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    async def drain(self, grace_s: float | None = None) -> None:
        """Say NOT_SERVING, refuse new calls, and give running ones the drain time, or `grace_s`, before they are cut."""
        self.is_serving = False
        await self._health.enter_graceful_shutdown()
        # Balancers and clients see NOT_SERVING before the port refuses them.
        await asyncio.sleep(0)
        await self._server.stop(self._settings.drain_seconds if grace_s is None else grace_s)

    def _bind(self) -> int:
        address, certificate, key = self._settings.address, self._settings.tls_certificate, self._settings.tls_key
        try:
            if certificate is None or key is None:
                return self._server.add_insecure_port(address)
            pair = (key.read_bytes(), certificate.read_bytes())
            return self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except OSError as error:
            raise InvalidRequest.of_field("tls_certificate", f"cannot be read: {error}") from error
        except RuntimeError as error:
            sentence = f"{address} cannot be bound: another process has the port. Stop it or choose another port"
            raise InvalidRequest.of_field("address", sentence) from error
