"""A count that tasks wait on: no message, no queue, so a slow waiter costs nothing and none can miss the last beat."""

import asyncio

from adaptory.core.errors import Unavailable


class Pulse:
    """Counts beats on one event loop. A waiter names the count it has seen and wakes once there is a later one."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._event = asyncio.Event()
        self._closed = False
        self.count = 0

    def beat(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait_beyond(self, count: int) -> int:
        """Return the count as soon as it is above `count`. Raises Unavailable once the pulse is closed."""
        while self.count <= count and not self._closed:
            await self._event.wait()
        if self._closed:
            message = "The service is stopping; call again, and go on from what you have."
            raise Unavailable(message, reason="STOPPING")
        return self.count

    def close(self) -> None:
        """End every wait, now and later: streams that follow would else hold up a stop until it cuts them."""
        self._closed = True
        self.beat()
