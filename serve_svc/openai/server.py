"""Listens for HTTP in the service's own event loop, with gRPC's certificate; when it starts and stops is the service's."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from adaptory.core.errors import InvalidRequest
from adaptory.core.settings import split_address
from serve_svc.openai.protocol import BoundedProtocol
from serve_svc.settings import ServeSettings

# As many as gRPC takes streams on one connection; a request on the next connection is told 503 at once.
_MAX_CONNECTIONS = 1_000
# What an answer that has just ended may take to reach its caller.
_LAST_WORDS_S = 1


class HttpServer:
    """One listening HTTP server."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        """Assemble; nothing listens yet."""

        class Protocol(BoundedProtocol):
            max_write_s = settings.max_write_seconds

        self._settings = settings
        self._config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            workers=1,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_LAST_WORDS_S,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        self._server = _Uvicorn(self._config)
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """Bind and listen; return the HOST:PORT bound. Raises InvalidRequest when the port is taken or a TLS file cannot be read."""
        address = self._settings.openai_address
        try:
            self._config.load()
        except OSError as error:
            raise InvalidRequest.of_field("tls_certificate", f"cannot be read: {error}") from error
        host, port = split_address(address)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family)
        except OSError as error:
            sentence = f"{address} cannot be bound: {error.strerror}. Choose another port, or none by an empty text"
            raise InvalidRequest.of_field("openai_address", sentence) from error
        self._running = asyncio.create_task(self._server.serve(sockets=[listener]), name="openai http")
        return f"{host}:{listener.getsockname()[1]}"

    async def stop(self) -> None:
        """Refuse new connections, let responses that are at their end reach their callers, and cut the others."""
        if self._running is None:
            return
        self._server.should_exit = True
        await self._running
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)


class _Uvicorn(uvicorn.Server):
    """A server of uvicorn that leaves signals to the service around it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
