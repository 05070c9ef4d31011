"""How a side is asked. Load generators know this much of it."""

from collections.abc import Callable
from typing import Protocol

from bench.serving.demand import Ask


class Refused(Exception):
    """The side did not take the request, since its queue is full; the message is its own."""


class Door(Protocol):
    """A side that is up. Speakers are numbers; `demand.BASE` is the base without an adapter."""

    async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
        """Ask, call `on_piece` for every piece with text and for the end, and return the tokens generated. Raises Refused.

        Cancelling it ends the work.
        """

    async def swap(self, speaker: int) -> None:
        """Let a speaker answer by an adapter that was never loaded, from now on."""

    def measure_memory(self) -> int:
        """Return the resident bytes of all the side's processes."""
