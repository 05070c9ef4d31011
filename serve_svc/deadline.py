"""The caller's deadline, laid on every wait of a request."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from adaptory.core.errors import DeadlineExceeded

_Result = TypeVar("_Result")


class Deadline:
    """The moment a request must have ended by. It bounds waits only: a timeout around a `yield` would hit whoever is served."""

    def __init__(self, left_s: float | None) -> None:
        """Begin now, with that many seconds; None is no deadline."""
        self._at_s = None if left_s is None else asyncio.get_running_loop().time() + left_s

    async def bound(self, work: Awaitable[_Result]) -> _Result:
        """Return the result of `work`, or cancel it and raise DeadlineExceeded."""
        try:
            async with asyncio.timeout_at(self._at_s) as limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                "The call's deadline passed; what it had started was stopped. Give it more time."
            ) from error

    async def bound_each(self, items: AsyncGenerator[_Result, None]) -> AsyncGenerator[_Result, None]:
        """Pass `items` on until one of them comes too late. Raises DeadlineExceeded; the caller closes `items`."""
        while True:
            try:
                item = await self.bound(anext(items))
            except StopAsyncIteration:
                return
            yield item
