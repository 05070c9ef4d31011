"""Time that moves only when a test says so."""

import asyncio


class ManualClock:
    """A monotonic clock in seconds, with the sleep that belongs to it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Return once the time has moved on by so much."""
        wake = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + seconds, wake))
        self._wake_due()
        await wake

    async def advance(self, seconds: float) -> None:
        """Move the time, and let everybody who was waiting for it run."""
        self.now_s += seconds
        self._wake_due()
        await settle()

    def _wake_due(self) -> None:
        for due_s, wake in self._sleepers:
            if due_s <= self.now_s and not wake.done():
                wake.set_result(None)
        self._sleepers = [(due_s, wake) for due_s, wake in self._sleepers if not wake.done()]


async def settle() -> None:
    """Run the event loop until nothing that is ready is left, as far as no thread is involved."""
    for _ in range(50):
        await asyncio.sleep(0)
