"""One HTTP request and its response: a bounded body in, one object or a stream of events out, for as long as the caller stays."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from adaptory.core.errors import CallerLeft, DeadlineExceeded, InvalidRequest, ServiceError, TooLarge
from serve_svc.openai.errors import dump_error, find_status, make_headers

_MAX_BODY_BYTES = 1 << 20
_MAX_BODY_S = 30.0
_TIMEOUT_HEADER = "x-request-timeout"
_EVENT_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the pieces back
)


class Exchange:
    """A request as it is read, and its response as it is written."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take over one request's ends of ASGI."""
        self.request = Request(scope, receive)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_streaming = False

    async def read_body(self) -> bytes:
        """Return the body. Raises TooLarge, DeadlineExceeded where it does not come, or CallerLeft."""
        body = bytearray()
        try:
            async with asyncio.timeout(_MAX_BODY_S):
                async for piece in self.request.stream():
                    body += piece
                    if len(body) > _MAX_BODY_BYTES:
                        raise TooLarge(
                            f"The body is larger than {_MAX_BODY_BYTES} bytes, the most that is read: send less text.",
                            metadata={"max_body_bytes": _MAX_BODY_BYTES},
                        )
        except TimeoutError as error:
            message = f"The body did not come within {_MAX_BODY_S:.0f} s; nothing was started. Send it at once."
            raise DeadlineExceeded(message) from error
        except ClientDisconnect as error:
            raise CallerLeft("The client left amid its request.") from error
        return bytes(body)

    def read_timeout(self) -> float | None:
        """Return the seconds that the caller gives the answer; None is no limit. Raises InvalidRequest."""
        text = self.request.headers.get(_TIMEOUT_HEADER)
        if text is None:
            return None
        try:
            left_s = float(text)
        except ValueError:
            left_s = math.nan
        if not 0 < left_s < math.inf:
            raise InvalidRequest.of_field(_TIMEOUT_HEADER, "is not a number of seconds above 0")
        return left_s

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Run the block, once the body is read, until the client leaves: it is then cancelled at once. Raises CallerLeft."""
        try:
            async with asyncio.timeout(None) as limit:
                watch = asyncio.create_task(self._expire_with_caller(limit))
                try:
                    yield
                finally:
                    watch.cancel()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise CallerLeft("The client left before its answer ended.") from error

    async def send_object(self, content: Mapping[str, object]) -> None:
        """Send the whole response."""
        await JSONResponse(content)(self._scope, self._receive, self._send)

    async def send_event(self, content: Mapping[str, object]) -> None:
        """Send one event; the response begins with the first one, so whatever fails before that has a status of its own."""
        if not self._is_streaming:
            self._is_streaming = True
            await self._send({"type": "http.response.start", "status": 200, "headers": list(_EVENT_HEADERS)})
        await self._send_data(json.dumps(content, ensure_ascii=False, separators=(",", ":")))

    async def end_events(self) -> None:
        """End the stream as one that is whole."""
        await self._send_data("[DONE]", is_last=True)

    async def fail(self, error: ServiceError) -> None:
        """Tell what failed: by the response's status, or as the last event of a stream that has begun, which then is not whole."""
        if isinstance(error, CallerLeft):
            return
        if self._is_streaming:
            await self._send_data(json.dumps(dump_error(error), ensure_ascii=False), is_last=True)
            return
        response = JSONResponse(dump_error(error), find_status(error), make_headers(error))
        await response(self._scope, self._receive, self._send)

    async def _send_data(self, data: str, *, is_last: bool = False) -> None:
        event = f"data: {data}\n\n".encode()
        await self._send({"type": "http.response.body", "body": event, "more_body": not is_last})

    async def _expire_with_caller(self, limit: asyncio.Timeout) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())
