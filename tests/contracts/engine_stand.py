"""Stands for the engine's contract suite: one supervised engine, fake or vLLM, and what a test may do to it from outside."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import REGISTRY

from adaptory.core.adapter_check import CONFIG_FILE
from adaptory.core.base_shape import BaseShape
from serve_svc.engine.engine import EngineAdapter, EngineRequest, Sampling
from serve_svc.engine.factory import build_vllm_engine
from serve_svc.engine.guarded_engine import GuardedEngine
from serve_svc.engine.supervisor import EngineState, Supervisor, SupervisorPolicy, SupervisorSeams
from tests.adapters import tiny_shape, write_adapter
from tests.fakes.engine import SETTINGS, FakeVllm, fake_engine

PROMPT = (1, 4093, 198, 504, 314, 253)


class EngineKind(Protocol):
    """How to build one kind of engine and to act on the process below it."""

    shape: BaseShape

    async def build(self) -> GuardedEngine:
        """Return an engine that is not started."""

    def kill(self, backend: Any) -> None:
        """Kill the engine's process."""

    def hang(self, backend: Any) -> None:
        """Stop the engine's processes where they are."""

    def signal_workers(self, backend: Any) -> None:
        """Send the engine's workers what Ctrl-C and service managers send to every process of a service."""

    def hold_reading(self, backend: Any, adapter: EngineAdapter) -> Callable[[], object]:
        """Let the reading of an adapter's files take until what is returned is called."""

    def num_unfinished(self, backend: Any) -> int:
        """Count the requests that the engine works on."""

    def num_cache_hits(self, backend: Any) -> float:
        """Count what the engine found in its prefix cache so far."""


class FakeKind:
    """The fake that the unit tests use."""

    shape = tiny_shape()

    async def build(self) -> GuardedEngine:
        """Return an engine that is not started."""
        return fake_engine()[0]

    def kill(self, backend: FakeVllm) -> None:
        """Kill the engine's process."""
        backend.kill()

    def hang(self, backend: FakeVllm) -> None:
        """Stop the engine's processes where they are."""
        backend.hang()

    def signal_workers(self, backend: FakeVllm) -> None:
        """Send nothing: the fake has no processes."""

    def hold_reading(self, backend: FakeVllm, adapter: EngineAdapter) -> Callable[[], object]:
        """Let the reading of adapters take until what is returned is called."""
        backend.hold_loads()
        return backend.release_loads

    def num_unfinished(self, backend: FakeVllm) -> int:
        """Count the requests that the engine works on."""
        return backend.num_unfinished

    def num_cache_hits(self, backend: FakeVllm) -> float:
        """Count what the engine found in its prefix cache so far."""
        return backend.num_cache_hits


class VllmKind:
    """vLLM itself, on the base in a folder."""

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self.shape = BaseShape.from_folder(base_dir)

    async def build(self) -> GuardedEngine:
        """Return an engine that is not started."""
        return await build_vllm_engine(self._base_dir, "base", SETTINGS)

    def kill(self, backend: Any) -> None:
        """Kill the engine's process."""
        backend._processes[0].kill()

    def hang(self, backend: Any) -> None:
        """Stop the engine's processes where they are."""
        for process in backend._processes:
            os.kill(process.pid, signal.SIGSTOP)

    def signal_workers(self, backend: Any) -> None:
        """Send the engine's workers what Ctrl-C and service managers send to every process of a service."""
        for worker in backend._processes[1:]:
            os.kill(worker.pid, signal.SIGINT)
            os.kill(worker.pid, signal.SIGTERM)

    def hold_reading(self, backend: Any, adapter: EngineAdapter) -> Callable[[], object]:
        """Put a pipe in place of the adapter's config: whoever opens it waits for the other end."""
        config = adapter.path / CONFIG_FILE
        text = config.read_text()
        config.unlink()
        os.mkfifo(config)
        return lambda: config.write_text(text)

    def num_unfinished(self, backend: Any) -> int:
        """Count the requests that the engine works on."""
        return int(backend._llm.get_num_unfinished_requests())

    def num_cache_hits(self, backend: Any) -> float:
        """Count what the engine found in its prefix cache so far."""
        return REGISTRY.get_sample_value("vllm:prefix_cache_hits_total", {"model_name": "base", "engine": "0"}) or 0.0


@dataclass
class EngineStand:
    """A supervised engine under test; after a recovery `engine` and `backend` are the new ones."""

    kind: EngineKind
    root: Path
    engines: list[GuardedEngine] = field(default_factory=list)
    states: "asyncio.Queue[EngineState]" = field(default_factory=asyncio.Queue)
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        """Put the supervisor on top, with a short poll and no backoff."""
        policy = SupervisorPolicy(poll_s=0.05, first_backoff_s=0.0)
        seams = SupervisorSeams(time.monotonic, asyncio.sleep)
        self.supervisor = Supervisor(self._build, policy, seams, self.states.put_nowait)

    async def _build(self) -> GuardedEngine:
        self.engines.append(await self.kind.build())
        return self.engines[-1]

    @property
    def engine(self) -> GuardedEngine:
        """The engine that lives now, or lived last."""
        return self.engines[-1]

    @property
    def backend(self) -> Any:
        """What is below the rules of that engine."""
        return self.engine._backend

    async def reach(self, state: EngineState) -> None:
        """Wait until the supervisor has come to `state` after the changes that were already waited for."""
        async with asyncio.timeout(120):
            while await self.states.get() is not state:
                pass

    def make_adapter(self, damage: Callable[[Path], None] = lambda _: None) -> EngineAdapter:
        """Write an adapter with a voice and an id of its own, then damage its files."""
        engine_id = next(self._ids)
        folder = self.root / f"adapter-{engine_id}"
        write_adapter(folder, self.kind.shape, weight_scale=0.1, seed=engine_id)
        damage(folder)
        return EngineAdapter(engine_id, f"tenant/bot@{engine_id}", folder)

    def request(self, adapter: EngineAdapter | None, *, num_tokens: int = 4, salt: str = "tenant") -> EngineRequest:
        """Ask greedily for exactly so many tokens, or fewer where the model ends early."""
        sampling = Sampling(max_tokens=num_tokens, temperature=0.0, top_p=1.0, seed=None, stop=())
        return EngineRequest(f"request-{next(self._ids)}", PROMPT, sampling, adapter, salt)

    def long_request(self, salt: str) -> EngineRequest:
        """Ask for one token behind a prompt of several cache blocks, the same whatever the salt."""
        request = self.request(None, num_tokens=1, salt=salt)
        return replace(request, prompt_ids=tuple(range(100, 300)))

    def kill(self) -> None:
        """Kill the engine's process."""
        self.kind.kill(self.backend)

    def hang(self) -> None:
        """Stop the engine's processes where they are."""
        self.kind.hang(self.backend)

    def signal_workers(self) -> None:
        """Send SIGINT and SIGTERM to the processes below the engine's."""
        self.kind.signal_workers(self.backend)

    def hold_reading(self, adapter: EngineAdapter) -> Callable[[], object]:
        """Let the reading of an adapter's files take until what is returned is called."""
        return self.kind.hold_reading(self.backend, adapter)

    def num_unfinished(self) -> int:
        """Count the requests that the engine works on."""
        return self.kind.num_unfinished(self.backend)

    def num_cache_hits(self) -> float:
        """Count what the engine found in its prefix cache so far."""
        return self.kind.num_cache_hits(self.backend)


async def ask(engine: Any, request: EngineRequest) -> str:
    """Return the whole answer of an engine, a backend or a supervisor."""
    async with aclosing(engine.generate(request)) as chunks:
        return "".join([chunk.text async for chunk in chunks])
