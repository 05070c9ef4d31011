"""Asks a side: so many streams at all times, or whenever requests are due, or one after the other."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import takewhile

from bench.serving.answers import Answer
from bench.serving.demand import Ask
from bench.serving.door import Door, Refused

# An answer that is under way when its phase ends is waited for so long; nobody would wait longer.
_PATIENCE_S = 60.0


class Clock:
    """Seconds since a phase began."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()

    def read(self) -> float:
        """Return the seconds."""
        return time.perf_counter() - self._began_s


async def keep_busy(door: Door, asks: Iterator[Ask], *, num_streams: int, seconds: float) -> list[Answer]:
    """Ask so that there are always `num_streams` answers under way, until the time is over; those under way are heard to the end.

    Raises Refused, in a group: a side that takes fewer streams cannot be compared.
    """
    clock, answers = Clock(), list[Answer]()

    async def keep_stream() -> None:
        while clock.read() < seconds:
            answer = Answer((ask := next(asks)).speaker, clock.read())
            answers.append(answer)
            await _hear(door, ask, answer, clock)

    async with asyncio.TaskGroup() as streams:
        for _ in range(num_streams):
            streams.create_task(keep_stream())
    return answers


async def let_arrive(
    door: Door, asks: Iterable[Ask], *, seconds: float, cut: frozenset[int] = frozenset()
) -> list[Answer]:
    """Ask whenever a request is due, however many are under way, until the time is over.

    Answers under way are then heard to their end, but those of the speakers in `cut` end with the time, and all after a minute.
    """
    clock, answers, running = Clock(), list[Answer](), list[asyncio.Task[None]]()
    for ask in takewhile(lambda ask: ask.due_s < seconds, asks):
        await asyncio.sleep(max(0.0, ask.due_s - clock.read()))
        answers.append(answer := Answer(ask.speaker, ask.due_s))
        running.append(asyncio.create_task(_hear_or_be_refused(door, ask, answer, clock)))
    await asyncio.sleep(max(0.0, seconds - clock.read()))
    for answer, task in zip(answers, running, strict=True):
        if answer.speaker in cut:
            task.cancel()
    if running:
        _, late = await asyncio.wait(running, timeout=_PATIENCE_S)
        for task in late:
            task.cancel()
    await _require_heard(running)
    return answers


async def ask_in_turn(door: Door, asks: Iterable[Ask]) -> list[Answer]:
    """Ask one request after the other. Raises Refused."""
    clock, answers = Clock(), list[Answer]()
    for ask in asks:
        answers.append(answer := Answer(ask.speaker, clock.read()))
        await _hear(door, ask, answer, clock)
    return answers


async def _hear(door: Door, ask: Ask, answer: Answer, clock: Clock) -> None:
    answer.num_tokens = await door.ask(ask, lambda: answer.heard_s.append(clock.read()))


async def _hear_or_be_refused(door: Door, ask: Ask, answer: Answer, clock: Clock) -> None:
    try:
        await _hear(door, ask, answer, clock)
    except Refused:
        answer.is_refused = True


async def _require_heard(running: Iterable[asyncio.Task[None]]) -> None:
    """Raise the first failure: figures of a side that fails are none."""
    for ended in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(ended, Exception):  # what was cancelled is a BaseException
            raise ended
