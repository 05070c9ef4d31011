"""Metrics of one service: its own registry, call metrics under go-grpc-prometheus names, bounded labels, and the HTTP port.

No label is ever taken from a request: methods come from the descriptors, tenants from the registry through `CappedLabel`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, start_http_server
from prometheus_client.core import Metric

from adaptory.core.settings import split_address

OTHER = "other"


class Collector(Protocol):
    """Anything prometheus_client can scrape."""

    def collect(self) -> Iterable[Metric]:
        """Yield metric families."""


class CappedLabel:
    """Keeps the first `capacity` values of a label and calls the rest `other`, so that tenants cannot grow the number of series."""

    def __init__(self, capacity: int) -> None:
        """Begin with no value known."""
        self._capacity = capacity
        self._values: set[str] = set()

    def name(self, value: str) -> str:
        """Return `value` while there is room for it, else `other`."""
        if value in self._values:
            return value
        if len(self._values) >= self._capacity:
            return OTHER
        self._values.add(value)
        return value


class GrpcMetrics:
    """Server metrics under the names of go-grpc-prometheus, so that stock dashboards and alerts work."""

    def __init__(self, registry: CollectorRegistry, methods: Sequence[str]) -> None:
        """Take the full names of the methods that are served; every other name is counted as `other`."""
        self._methods = frozenset(methods)
        self._counters = _CallCounters(registry, "grpc", "RPC", ("grpc_type", "grpc_service", "grpc_method"))

    def observe(self, method: str, *, streams: bool) -> AbstractContextManager["CountedCall"]:
        """Count one call; a block left without `ended` (the client went away) counts as CANCELLED."""
        service, _, name = (method if method in self._methods else f"/{OTHER}/{OTHER}").lstrip("/").partition("/")
        return self._counters.observe("server_stream" if streams else "unary", service, name)


class HttpMetrics:
    """What GrpcMetrics has, of HTTP requests by route; with the same codes, so that a stream that failed does not count as a 200."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Count the routes that are observed, which are no more than a service has."""
        self._counters = _CallCounters(registry, "http", "HTTP request", ("http_route",))

    def observe(self, route: str) -> AbstractContextManager["CountedCall"]:
        """Count one request; a block left without `ended` (the client went away) counts as CANCELLED."""
        return self._counters.observe(route)


class _CallCounters:
    """Counts calls over one protocol, in series `PROTOCOL_server_…`."""

    def __init__(self, registry: CollectorRegistry, protocol: str, call: str, labels: Sequence[str]) -> None:
        prefix, code = f"{protocol}_server", f"{protocol}_code"
        self._started = Counter(f"{prefix}_started", f"{call}s started on the server.", labels, registry=registry)
        self._handled = Counter(f"{prefix}_handled", f"{call}s completed, by code.", (*labels, code), registry=registry)
        self._seconds = Histogram(
            f"{prefix}_handling_seconds", f"Seconds until the server had handled an {call}.", labels, registry=registry
        )
        self._sent = Counter(f"{prefix}_msg_sent", "Messages sent by the server.", labels, registry=registry)
        self._received = Counter(
            f"{prefix}_msg_received", "Messages received by the server.", labels, registry=registry
        )

    @contextmanager
    def observe(self, *labels: str) -> Iterator["CountedCall"]:
        record = CountedCall(self._sent.labels(*labels))
        begun = time.perf_counter()
        self._started.labels(*labels).inc()
        self._received.labels(*labels).inc()
        try:
            yield record
        finally:
            code = "".join(part.capitalize() for part in record.code.name.split("_")) if record.code.value[0] else "OK"
            self._handled.labels(*labels, code).inc()
            self._seconds.labels(*labels).observe(time.perf_counter() - begun)


@dataclass(slots=True)
class CountedCall:
    """What is heard of one call while it runs."""

    _sent: Counter
    code: grpc.StatusCode = grpc.StatusCode.CANCELLED

    def sent_message(self) -> None:
        """One message went to the client."""
        self._sent.inc()

    def ended(self, code: grpc.StatusCode) -> None:
        """The call ended with this code."""
        self.code = code


class Telemetry:
    """One service's registry and the port it is scraped at. A context manager: the port is closed at the end."""

    def __init__(self, *, service: str, version: str) -> None:
        """Begin with `adaptory_build_info` alone."""
        self.registry = CollectorRegistry()
        Info("adaptory_build", "What is running.", registry=self.registry).info(
            {"service": service, "version": version}
        )
        self._server: tuple[object, object] | None = None

    def add_collector(self, collector: Collector) -> None:
        """Scrape another library's collector along with our own."""
        self.registry.register(collector)

    def serve(self, address: str) -> str:
        """Serve `/metrics` in a thread and return the HOST:PORT bound. Raises OSError when the port is taken."""
        host, port = split_address(address)
        server, thread = start_http_server(port, addr=host, registry=self.registry)
        self._server = (server, thread)
        return f"{host}:{server.server_port}"

    def close(self) -> None:
        """Stop serving; does nothing when nothing is served."""
        if self._server is None:
            return
        server, thread = self._server
        server.shutdown()  # type: ignore[attr-defined]  # WSGIServer, which the stubs hide
        server.server_close()  # type: ignore[attr-defined]
        thread.join()  # type: ignore[attr-defined]
        self._server = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port."""
        self.close()
