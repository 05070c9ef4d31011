"""HTTP/1.1 on one connection, with an end to how long its client may be waited for."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Once the head is there, `exchange.py` waits for the body.
_MAX_HEAD_S = 10.0


class BoundedProtocol(H11Protocol):
    """Cuts the connection of a client that does not send the head of its request, or does not read what it asked for.

    A write buffer that is full stops the answer, so what is held for a client is bounded; this bounds for how long.
    """

    max_write_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._head_limit: asyncio.TimerHandle | None = None
        self._write_limit: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest of a head; between two requests uvicorn waits for a shorter time."""
        super().data_received(data)
        self._await_head()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._write_limit = self.loop.call_later(self.max_write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        _cancel(self._write_limit)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        _cancel(self._head_limit)
        _cancel(self._write_limit)

    def _await_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            _cancel(self._head_limit)
            self._head_limit = None
        elif self._head_limit is None:
            self._head_limit = self.loop.call_later(_MAX_HEAD_S, self.transport.abort)


def _cancel(limit: asyncio.TimerHandle | None) -> None:
    if limit is not None:
        limit.cancel()
