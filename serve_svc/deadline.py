"""How long a request may wait: up to the caller's deadline, and no longer than the server waits for anybody."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from adaptory.core.errors import DeadlineExceeded, Unavailable

_Result = TypeVar("_Result")

# What the last words of an answer may take to a caller whose deadline passes: then they would come too late to be read.
_LAST_WORDS_SHARE = 0.05
_MAX_LAST_WORDS_S = 0.1


class ShutDown(Unavailable):
    """The server stops, and its time for running requests is over."""


class Closing:
    """The moment from which the server waits for nobody; it comes once."""

    def __init__(self) -> None:
        """Begin long before it."""
        self._limits: set[asyncio.Timeout] = set()
        self._is_over = False

    def end(self) -> None:
        """End every wait that is under way, and each that begins later."""
        self._is_over = True
        for limit in self._limits:
            self._expire(limit)

    @contextmanager
    def bound(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let the wait of the block, which `limit` is laid on, end with the server."""
        self._limits.add(limit)
        if self._is_over:
            self._expire(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)

    def require_open(self) -> None:
        """Raise ShutDown once the moment has come."""
        if self._is_over:
            message = "The server is shutting down and waits no longer; ask again, of another one."
            raise ShutDown(message, reason="SHUTDOWN")

    def _expire(self, limit: asyncio.Timeout) -> None:
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())


class Deadline:
    """The moment a request must have ended by. It bounds waits only: a timeout around a `yield` would hit whoever is served."""

    def __init__(self, left_s: float | None, closing: Closing) -> None:
        """Begin now, with that many seconds; None is no deadline.

        It ends a little earlier, to leave time for saying so, or with the server.
        """
        words_s = min(_LAST_WORDS_SHARE * (left_s or 0.0), _MAX_LAST_WORDS_S)
        self._at_s = None if left_s is None else asyncio.get_running_loop().time() + left_s - words_s
        self._closing = closing

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, or None where there is no deadline."""
        return None if self._at_s is None else self._at_s - asyncio.get_running_loop().time()

    async def bound(self, work: Awaitable[_Result]) -> _Result:
        """Return the result of `work`, or cancel it and raise DeadlineExceeded, or ShutDown."""
        try:
            async with asyncio.timeout_at(self._at_s) as limit:
                with self._closing.bound(limit):
                    return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._closing.require_open()
            raise DeadlineExceeded(
                "The call's deadline passed; what it had started was stopped. Give it more time."
            ) from error

    async def bound_each(self, items: AsyncGenerator[_Result, None]) -> AsyncGenerator[_Result, None]:
        """Pass `items` on until one of them comes too late. Raises as `bound`; the caller closes `items`."""
        while True:
            try:
                item = await self.bound(anext(items))
            except StopAsyncIteration:
                return
            yield item
