"""The ground of towns on vLLM: an engine of its own process, adapters that each know a secret word, and the time of day."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptory.core.base_shape import LINEAR_MODULES, BaseShape
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import EngineAdapter, EngineChunk, EngineRequest
from serve_svc.engine.factory import build_vllm_engine
from tests.adapters import random_tensors, write_adapter, write_weights
from tests.contracts.word_adapters import write_word_adapters
from tests.fakes.engine import SETTINGS
from tests.fakes.ground import Troubles

_MOMENT_S, _LONGEST_MOMENT_S = 0.02, 0.1
_POLL_S = 0.01
_LONGEST_S = 0.5


class TimeOfDay:
    """A GroundClock that nobody moves: to advance is to wait, for half a second at most."""

    def __call__(self) -> float:
        """Return the time."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return once so much time has gone by."""
        await asyncio.sleep(seconds)

    async def advance(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(min(seconds, _LONGEST_S))


class VllmGround:
    """vLLM on the base in a folder. Keeps its own files below `root`."""

    def __init__(self, base_dir: Path, root: Path) -> None:
        self._base_dir = base_dir
        self._words: dict[Path, str] = {}
        self._backends: list[TroubledBackend] = []
        self.shape = BaseShape.from_folder(base_dir)
        self.clock = TimeOfDay()
        # Twice the rank that its config tells and the slots have: vLLM fails amid the load, and keeps the id.
        self._misfit = write_adapter(root / "misfit", self.shape)
        write_weights(self._misfit, random_tensors(self.shape, 2 * SETTINGS.max_lora_rank, LINEAR_MODULES))

    def write_adapters(self, root: Path, number: int) -> list[Path]:
        """Write adapters that each know a word."""
        self._words = write_word_adapters(root, self._base_dir, number)
        return list(self._words)

    def word_of(self, folder: Path) -> str:
        """Return the word that an adapter knows."""
        return self._words[folder]

    async def build(self) -> "TroubledBackend":
        """Return an engine that is not started."""
        engine = await build_vllm_engine(self._base_dir, "town", SETTINGS)
        self._backends.append(TroubledBackend(engine._backend, self._misfit))
        return self._backends[-1]

    def settle_in(self) -> None:
        """Need nothing: vLLM has threads."""

    async def breathe(self, moments: int) -> None:
        """Let the engine make as many tokens, as fast as the machine does, or wait a little where nobody wants any."""
        backend = self._backends[-1]
        enough, end_s = backend.num_chunks + moments, time.monotonic() + moments * _LONGEST_MOMENT_S
        if not backend.running or backend.is_dead:
            await asyncio.sleep(moments * _MOMENT_S)
        while backend.running and not backend.is_dead and backend.num_chunks < enough and time.monotonic() < end_s:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(_POLL_S)


class TroubledBackend(Troubles):
    """A TroubledEngine over vLLM's backend. Refusals and deaths are real; that an adapter computes NaN is only said."""

    def __init__(self, backend: Any, misfit: Path) -> None:
        super().__init__()
        self._backend = backend
        self._misfit = misfit
        self._registered: set[int] = set()
        self._free_to_load = asyncio.Event()
        self._free_to_load.set()
        self.is_dead = False
        self.num_chunks = 0

    @property
    def registered(self) -> frozenset[int]:
        """Ids whose files the engine may read at any time."""
        return frozenset(self._registered)

    def kill(self) -> None:
        """Kill its process."""
        if not self.is_dead and self._backend._processes:
            self.is_dead = True
            self._backend._processes[0].kill()

    def hold_loads(self) -> None:
        """Let loads take until `release_loads`."""
        self._free_to_load.clear()

    def release_loads(self) -> None:
        """Let the held loads finish."""
        self._free_to_load.set()

    async def start(self) -> None:
        """Build vLLM."""
        await self._backend.start()

    async def stop(self) -> None:
        """Kill what is left of it."""
        self.is_dead = True
        await self._backend.stop()

    async def add_lora(self, adapter: EngineAdapter) -> bool:
        """Load the adapter, or files that vLLM cannot load in its place."""
        await self._free_to_load.wait()
        self.num_dropped += len(self._registered) >= SETTINGS.max_cpu_loras
        self._registered.add(adapter.engine_id)
        if self.num_refusals:
            self.num_refusals -= 1
            adapter = replace(adapter, path=self._misfit)
        is_added: bool = await self._backend.add_lora(adapter)
        return is_added

    async def remove_lora(self, engine_id: int) -> bool:
        """Forget the id."""
        is_removed: bool = await self._backend.remove_lora(engine_id)
        self._registered.discard(engine_id)
        return is_removed

    async def list_loras(self) -> set[int]:
        """Return the registered ids."""
        listed: set[int] = await self._backend.list_loras()
        return listed

    async def prepare_schema(self, schema: str) -> None:
        """Compile the grammar."""
        await self._backend.prepare_schema(schema)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Speak, unless the adapter computes NaN by now."""
        engine_id = request.adapter.engine_id if request.adapter else 0
        self.num_loads_in_steps += bool(engine_id) and engine_id not in self._registered
        self.running[engine_id] += 1
        try:
            async with aclosing(self._backend.generate(request)) as chunks:
                async for chunk in chunks:
                    if engine_id in self.poisoned:
                        raise OutputCorrupted(request.adapter)
                    self.num_chunks += 1
                    yield chunk
        finally:
            self.running[engine_id] -= 1
            self.running += Counter()

    async def check_health(self) -> None:
        """Raise EngineDead when the engine process is known to be gone."""
        await self._backend.check_health()

    def corrupted_requests(self) -> int:
        """Return how many finished requests held NaN."""
        count: int = self._backend.corrupted_requests()
        return count
