"""Speaks to the registry: one channel, one key, what a server hears and tells. What it means is for others."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from adaptory.core.auth import not_found
from adaptory.core.errors import AlreadyExists, Corrupted, InvalidRequest, ServiceError, Unavailable
from adaptory.core.names import VersionName
from adaptory.registry.v1 import registry_service_pb2, registry_service_pb2_grpc, usage_service_pb2_grpc
from serve_svc.adapters.files import FileChunk
from serve_svc.registry.convert import dump_report, parse_totals, parse_update
from serve_svc.routing import Delta, RoutingTable
from serve_svc.usage.day_tokens import DayTotals
from serve_svc.usage.reporter import ReportRefused
from serve_svc.usage.spool import UsageReport
from serve_svc.version import AdapterVersion

log = structlog.get_logger()

_OPTIONS = (
    # A watch may be silent for days: pings tell a quiet registry from a lost one.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own wait before it dials again grows to two minutes; our loop already waits with jitter.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A snapshot is one message and holds every tenant's bots.
    ("grpc.max_receive_message_length", 512 * 1024 * 1024),
)
_DOWNLOAD_TIMEOUT_S = 600.0
_CALL_TIMEOUT_S = 10.0
_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where the registry is, HOST:PORT, and the CA that vouches for it; without one the channel is plain, for loopback only."""

    target: str
    ca_file: Path | None


def open_channel(address: RegistryAddress) -> grpc.aio.Channel:
    """Return a channel that connects when it is used. Raises InvalidRequest when the CA file cannot be read."""
    if address.ca_file is None:
        return grpc.aio.insecure_channel(address.target, options=_OPTIONS)
    try:
        credentials = grpc.ssl_channel_credentials(address.ca_file.read_bytes())
    except OSError as error:
        raise InvalidRequest.of_field("registry_ca", f"cannot be read: {error}") from error
    return grpc.aio.secure_channel(address.target, credentials, options=_OPTIONS)


def read_server_key(file: Path) -> str:
    """Return the server's key. Read it at every call: the trainer makes the file at its own first start, which may come after ours.

    Raises Unavailable (SERVER_KEY_MISSING).
    """
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Unavailable(
            f"server_key_file {file} cannot be read: {error.strerror}. Start the trainer, or copy its key there.",
            reason="SERVER_KEY_MISSING",
        ) from error


class RegistryClient:
    """An AdapterSource, a UsageRegistry, and the feed of routing tables."""

    def __init__(self, channel: grpc.aio.Channel, read_key: Callable[[], str]) -> None:
        """Take the channel, which its owner closes, and where the server's key is read for every call."""
        self._stub = registry_service_pb2_grpc.RegistryServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._usage_stub = usage_service_pb2_grpc.UsageServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._read_key = read_key

    async def watch(self) -> AsyncGenerator[RoutingTable | Delta, None]:
        """Stream the registry's whole state, then its changes, until either side ends it. Raises ServiceError."""
        call = self._stub.WatchServing(registry_service_pb2.WatchServingRequest(), metadata=self._metadata())
        async with _ended(call, "its state"):
            async for update in call:
                yield parse_update(update)

    async def read(self, version: AdapterVersion) -> AsyncIterator[FileChunk]:
        """Stream both files of the version's adapter. Raises Unavailable, Corrupted or NotFound."""
        request = registry_service_pb2.DownloadAdapterRequest(name=version.name)
        call = self._stub.DownloadAdapter(request, metadata=self._metadata(), timeout=_DOWNLOAD_TIMEOUT_S)
        async with _ended(call, version.name):
            async for chunk in call:
                yield FileChunk(chunk.file_name, chunk.data)

    async def end_canary(self, version: VersionName, reason: str) -> None:
        """Have a canary end for all servers, and the reason be kept; one that has ended stays so. Raises Unavailable or NotFound."""
        request = registry_service_pb2.EndCanaryRequest(name=str(version), reason=reason)
        try:
            await self._stub.EndCanary(request, metadata=self._metadata(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _to_error(error.code(), str(version)) from error

    async def report_usage(self, report: UsageReport | None) -> DayTotals:
        """Have a report be counted once, if there is one, and return today's totals. Raises as UsageRegistry tells."""
        request, name = dump_report(report), "a report of usage"
        try:
            answer = await self._usage_stub.ReportUsage(request, metadata=self._metadata(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                raise AlreadyExists(error.details() or name, reason="REPORT_REUSED") from error
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise ReportRefused(error.details() or name) from error
            raise _to_error(error.code(), name) from error
        return parse_totals(answer)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._read_key()}"),)


@asynccontextmanager
async def _ended(call: grpc.aio.UnaryStreamCall[Any, Any], name: str) -> AsyncIterator[None]:
    """End the call with the block, and tell the registry's errors in our tree; `name` is what was asked for."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        log.warning("registry_call_failed", asked_for=name, code=error.code().name, details=error.details())
        raise _to_error(error.code(), name) from error
    finally:
        call.cancel()


def _to_error(code: grpc.StatusCode, name: str) -> ServiceError:
    if code is grpc.StatusCode.DATA_LOSS:
        return Corrupted(f"The registry's bytes of {name} are not those that were registered.", metadata={"name": name})
    if code is grpc.StatusCode.NOT_FOUND:
        return not_found(name)
    return Unavailable(
        f"The registry did not give {name} ({code.name}); retry in {_RETRY_AFTER_S:.0f} s.",
        reason="REGISTRY_UNAVAILABLE",
        metadata={"name": name, "code": code.name},
        retry_after_s=_RETRY_AFTER_S,
    )
