"""What a town stands on: an engine that can be troubled, adapters that each say a word of their own, and time.

Here is the ground of the unit tests: a fake engine, and time that a test moves, with what the product does in threads done in place,
so that a history of one seed is the same every time. `tests/contracts/vllm_ground.py` has vLLM and the time of day.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from adaptory.core.base_shape import BaseShape
from serve_svc.engine.backend import EngineBackend, OutputCorrupted
from serve_svc.engine.engine import AdapterLoadFailed, EngineAdapter, EngineChunk, EngineRequest
from tests.adapters import tiny_shape, write_adapter
from tests.fakes.clock import ManualClock
from tests.fakes.engine import SETTINGS, FakeVllm, Weights, voice_of


class TroubledEngine(EngineBackend, Protocol):
    """A backend that refuses or poisons what it is told to, and counts what must never happen."""

    num_refusals: int  # so many loads that come next fail
    poisoned: set[int]  # ids of adapters that compute NaN by now
    running: Counter[int]  # requests under way, by adapter; 0 is the bare base
    num_loads_in_steps: int
    num_dropped: int

    @property
    def registered(self) -> frozenset[int]:
        """Ids whose files the engine may read at any time."""

    @property
    def is_dead(self) -> bool:
        """Tell whether its process has ended."""

    def kill(self) -> None:
        """End its process."""

    def hold_loads(self) -> None:
        """Let loads take until `release_loads`."""

    def release_loads(self) -> None:
        """Let the held loads finish."""


class GroundClock(Protocol):
    """A monotonic clock in seconds, with the sleep that belongs to it."""

    def __call__(self) -> float:
        """Return the time."""

    def sleep(self, seconds: float) -> Coroutine[object, object, None]:
        """Return once the time has moved on by so much."""

    async def advance(self, seconds: float) -> None:
        """Return when some time has gone by, up to so much, and everybody who waited for it has run."""


class Ground(Protocol):
    """The engines of a town, its adapters, and its time."""

    shape: BaseShape
    clock: GroundClock

    def write_adapters(self, root: Path, number: int) -> list[Path]:
        """Write so many adapters of rank 1, each with a word of its own, and return their folders."""

    def word_of(self, folder: Path) -> str:
        """Return the one word that an adapter's weights say, over and over."""

    async def build(self) -> TroubledEngine:
        """Return an engine that is not started."""

    def settle_in(self) -> None:
        """Make the running event loop one of this ground."""

    async def breathe(self, moments: int) -> None:
        """Let everybody run for a while."""


class FakeGround:
    """Fake engines, and time that moves when it is told to."""

    def __init__(self) -> None:
        self.shape = tiny_shape()
        self.clock = ManualClock()

    def write_adapters(self, root: Path, number: int) -> list[Path]:
        """Write adapters whose weights differ."""
        return [
            write_adapter(root / str(seed), self.shape, rank=1, target_modules=("q_proj",), seed=seed)
            for seed in range(number)
        ]

    def word_of(self, folder: Path) -> str:
        """Return the digest that the fake says."""
        return voice_of(folder)

    async def build(self) -> "TroubledVllm":
        """Return an engine that is not started."""
        return TroubledVllm()

    def settle_in(self) -> None:
        """Have the loop do in place what is meant for a thread."""
        asyncio.get_running_loop().set_default_executor(InPlace())

    async def breathe(self, moments: int) -> None:
        """Go around the loop so many times."""
        for _ in range(moments):
            await asyncio.sleep(0)


class InPlace(ThreadPoolExecutor):
    """Runs what is meant for a thread at once, where it is asked for."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        """Return the result of the work, which is done."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            done.set_exception(error)
        return done


class Troubles:
    """What was asked of a troubled engine, and what it counted."""

    def __init__(self) -> None:
        super().__init__()
        self.num_refusals = 0
        self.poisoned: set[int] = set()
        self.running: Counter[int] = Counter()
        self.num_loads_in_steps = 0
        self.num_dropped = 0


class TroubledVllm(Troubles, FakeVllm):
    """A TroubledEngine that is a fake."""

    @property
    def registered(self) -> frozenset[int]:
        """Ids whose files the engine may read at any time."""
        return frozenset(self._registered)

    @property
    def is_dead(self) -> bool:
        """Tell whether its process has ended."""
        return self._is_dead

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Speak, unless the adapter computes NaN by now."""
        engine_id = request.adapter.engine_id if request.adapter else 0
        self.running[engine_id] += 1
        try:
            async with aclosing(super().generate(request)) as chunks:
                async for chunk in chunks:
                    if engine_id in self.poisoned:
                        self._is_poisoned = True
                        raise OutputCorrupted(request.adapter)
                    yield chunk
        finally:
            self.running[engine_id] -= 1
            self.running += Counter()

    def _weights_of(self, adapter: EngineAdapter | None) -> Weights:
        self.num_loads_in_steps += adapter is not None and adapter.engine_id not in self._registered
        return super()._weights_of(adapter)

    def _load(self, adapter: EngineAdapter) -> None:
        if self.num_refusals:
            self.num_refusals -= 1
            self._registered[adapter.engine_id] = self._left_in_slot
            raise AdapterLoadFailed("The size of tensor a must match the size of tensor b")
        self.num_dropped += len(self._registered) >= SETTINGS.max_cpu_loras
        super()._load(adapter)
