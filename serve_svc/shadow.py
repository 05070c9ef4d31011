"""Asks a bot's shadow what production was asked, and compares; nothing of it is sent, and nobody waits for it.

A shadow is asked once production's answer is whole, one request at a time on each server, and only while places in the engine are to
spare. What cannot be asked soon is dropped and counted: a share of the conversations is all that a comparison needs.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from rapidfuzz.distance import Levenshtein

from adaptory.core.errors import Busy, ServiceError
from serve_svc.deadline import Closing, Deadline
from serve_svc.metrics import RequestMetrics
from serve_svc.routing import Route

log = structlog.get_logger()

# What waits has a conversation's text in memory.
_MAX_WAITING = 32
_MAX_ANSWER_S = 60.0


class AnswerPiece(Protocol):
    """A piece of any bot's answer."""

    @property
    def text(self) -> str:
        """The text that came next."""


Piece = TypeVar("Piece", bound=AnswerPiece)
Answer = Callable[[Route, Deadline], AsyncGenerator[Piece, None]]
"""Answers one request by a route, in time."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What production said, and how the shadow is asked for the same."""

    shadow: Route
    said: str
    answer: Callable[[Route, Deadline], AsyncGenerator[AnswerPiece, None]]


class Shadows:
    """Compares the shadows of all bots with what production says."""

    def __init__(self, metrics: RequestMetrics, closing: Closing) -> None:
        """Begin with nothing to compare; answers end with `closing`."""
        self._metrics = metrics
        self._closing = closing
        self._waiting: asyncio.Queue[_Comparison] = asyncio.Queue(_MAX_WAITING)

    async def follow(self, route: Route, answer: Answer[Piece], deadline: Deadline) -> AsyncGenerator[Piece, None]:
        """Answer by `route`, and have its shadow, if any, be asked the same once the answer is whole. Raises what `answer` raises."""
        said: list[str] = []
        async with aclosing(answer(route, deadline)) as pieces:
            async for piece in pieces:
                if route.shadow:
                    said.append(piece.text)
                yield piece
        if route.shadow:
            self._offer(_Comparison(route.shadow, "".join(said), answer))

    async def run(self) -> None:
        """Ask and compare until cancelled."""
        while True:
            comparison = await self._waiting.get()
            try:
                heard = await self._ask(comparison)
            except Busy:
                self._metrics.shadow_dropped(comparison.shadow)
            except ServiceError as error:
                self._metrics.shadow_failed(comparison.shadow)
                log.warning("shadow_failed", version=str(comparison.shadow.name), reason=error.reason)
            except Exception:  # what runs in the background takes the server down with it, and this must not
                self._metrics.shadow_failed(comparison.shadow)
                log.exception("shadow_broken", version=str(comparison.shadow.name))
            else:
                similarity = Levenshtein.normalized_similarity(comparison.said, heard)
                self._metrics.shadow_compared(comparison.shadow, similarity)

    def _offer(self, comparison: _Comparison) -> None:
        try:
            self._waiting.put_nowait(comparison)
        except asyncio.QueueFull:
            self._metrics.shadow_dropped(comparison.shadow)

    async def _ask(self, comparison: _Comparison) -> str:
        deadline = Deadline(_MAX_ANSWER_S, self._closing)
        async with aclosing(comparison.answer(comparison.shadow, deadline)) as pieces:
            return "".join([piece.text async for piece in pieces])
