"""One channel to one service: key, TLS, keepalive, deadlines, and retries of what is safe to retry."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from adaptory.client.errors import RpcFailed
from adaptory.core.settings import is_loopback

Response = TypeVar("Response")

DEFAULT_DEADLINE_S = 30.0
"""Of a call that only reads or writes a record."""
LONG_DEADLINE_S = 300.0
"""Of a call that works through data: a dataset's check, a plan, a whole answer."""

# UNAVAILABLE only: the contract promises that it is safe to retry. grpc retries a stream only before its first message.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# A key whose answer was lost on the way would be issued twice, so its call is not repeated.
_ONCE_ONLY = {"service": "adaptory.registry.v1.RegistryService", "method": "CreateApiKey"}
_OPTIONS = (
    (
        "grpc.service_config",
        json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}, {"name": [_ONCE_ONLY]}]}),
    ),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is and with which key it is called.

    TLS is used for every address that is not loopback, so that a key never crosses a network in clear; `ca_file` (PEM) replaces the
    system's authorities.
    """

    address: str
    key: str = field(repr=False)
    ca_file: Path | None = None


class Connection(AbstractAsyncContextManager["Connection"]):
    """An open channel. It connects at the first call and again whenever the connection is lost."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open the channel; call it inside a running event loop. Raises OSError when `ca_file` cannot be read."""
        self.address = endpoint.address
        self.channel = _open_channel(endpoint)
        self._metadata = (("authorization", f"Bearer {endpoint.key}"),)

    async def __aenter__(self) -> Self:
        """Return the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel; calls that still run end as CANCELLED."""
        await self.channel.close()

    async def call(
        self, method: Callable[..., Awaitable[Response]], request: Message, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> Response:
        """Make a unary call. Raises RpcFailed."""
        try:
            return await method(request, metadata=self._metadata, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise RpcFailed.from_rpc_error(error, self.address) from error

    async def stream(
        self,
        method: "Callable[..., grpc.aio.UnaryStreamCall[Any, Response]]",
        request: Message,
        *,
        deadline_s: float | None,
    ) -> AsyncGenerator[Response, None]:
        """Yield what a server-streaming call sends; leaving early cancels the call. Raises RpcFailed."""
        call = method(request, metadata=self._metadata, timeout=deadline_s)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise RpcFailed.from_rpc_error(error, self.address) from error
        finally:
            call.cancel()


def _open_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.ca_file is None and is_loopback(endpoint.address):
        return grpc.aio.insecure_channel(endpoint.address, options=_OPTIONS)
    authorities = endpoint.ca_file.read_bytes() if endpoint.ca_file else None
    return grpc.aio.secure_channel(endpoint.address, grpc.ssl_channel_credentials(authorities), options=_OPTIONS)
