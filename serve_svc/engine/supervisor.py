"""Keeps one engine alive: notices its death, ends what ran on it, builds the next one.

It is itself an Engine, so that nobody above ever holds an engine that may be gone. Which adapters come back is decided by
`adapters/deployment.py` once the state is SERVING again, and which are refused since they killed or poisoned an engine by
`adapters/quarantine.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from enum import Enum

import structlog

from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import Engine, EngineAdapter, EngineChunk, EngineDead, EngineDiedLoading, EngineRequest

_log = structlog.get_logger(__name__)


class EngineState(Enum):
    """Where the engine stands; health is SERVING in SERVING alone."""

    STARTING = "STARTING"
    SERVING = "SERVING"
    RECOVERING = "RECOVERING"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class SupervisorPolicy:
    """When an engine counts as dead and how eagerly the next one is built.

    An engine that owes an answer and gives no sign of life for `stall_after_s` hangs. One that lives shorter than
    `stable_after_s` counts as a failed attempt; after n of them in a row the next waits `first_backoff_s * 2**(n - 1)`, at
    most `max_backoff_s`.
    """

    poll_s: float = 1.0
    stall_after_s: float = 60.0
    stable_after_s: float = 120.0
    first_backoff_s: float = 1.0
    max_backoff_s: float = 60.0

    def backoff_s(self, num_failures: int) -> float:
        """Return how long to wait after this many failed attempts in a row."""
        return min(self.first_backoff_s * 2.0 ** (num_failures - 1), self.max_backoff_s) if num_failures else 0.0


@dataclass(frozen=True, slots=True)
class SupervisorSeams:
    """What tests replace: a monotonic clock in seconds, and a sleep."""

    clock: Callable[[], float]
    sleep: Callable[[float], Coroutine[object, object, None]]


class Supervisor:
    """An Engine that outlives its engines; while there is none, every call raises EngineDead with a retry time."""

    def __init__(
        self,
        build: Callable[[], Awaitable[Engine]],
        policy: SupervisorPolicy,
        seams: SupervisorSeams,
        on_state: Callable[[EngineState], None],
    ) -> None:
        """`build` returns an engine that is not started; `on_state` is told of every change and must not block."""
        self._build = build
        self._policy = policy
        self._seams = seams
        self._on_state = on_state
        self._state = EngineState.STOPPED
        self._session: _Session | None = None  # the last one built, alive or not
        self._watch: asyncio.Task[None] | None = None
        self._num_failures = 0

    @property
    def state(self) -> EngineState:
        """Where the engine stands now."""
        return self._state

    @property
    def max_loras(self) -> int:
        """Distinct adapters that may run at once."""
        return self._last_session().engine.max_loras

    @property
    def max_cpu_loras(self) -> int:
        """Adapters that may be resident at once."""
        return self._last_session().engine.max_cpu_loras

    @property
    def max_rank(self) -> int:
        """Highest rank of an adapter."""
        return self._last_session().engine.max_rank

    @property
    def max_model_tokens(self) -> int:
        """Prompt and output tokens of one request together."""
        return self._last_session().engine.max_model_tokens

    async def start(self) -> None:
        """Build the first engine and watch it from then on; raises EngineDead when it cannot be built at all."""
        self._enter(EngineState.STARTING)
        try:
            self._session = await self._start_session()
        except EngineDead:
            _log.exception("engine_build_failed")
            self._enter(EngineState.STOPPED)
            raise
        self._enter(EngineState.SERVING)
        self._watch = asyncio.create_task(self._keep_alive(self._session), name="engine supervisor")

    def stop_recovering(self) -> None:
        """Take the next death for the end: after a signal to the whole process group an idle engine leaves by itself."""
        if self._watch is not None:
            self._watch.cancel()

    async def stop(self) -> None:
        """Stop watching and stop the engine; what still runs ends with EngineDead."""
        self._enter(EngineState.STOPPED)
        self.stop_recovering()
        if self._watch is not None:
            await asyncio.wait([self._watch])
        if self._session is not None:
            await self._session.engine.stop()

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Make the adapter resident; raises EngineDiedLoading when the engine ends before it is."""
        session = self._live_session()
        try:
            with session.awaited():
                await session.engine.load_adapter(adapter)
        except EngineDead as error:
            _log.warning("adapter_suspected", adapter=adapter.name)
            raise EngineDiedLoading(
                f"The engine died while it loaded {adapter.name}; a new one is being built, retry in 30 s.",
                metadata={"adapter": adapter.name},
                retry_after_s=30.0,
            ) from error

    async def unload_adapter(self, engine_id: int) -> None:
        """Forget the adapter."""
        session = self._live_session()
        with session.awaited():
            await session.engine.unload_adapter(engine_id)

    async def resident_adapters(self) -> frozenset[int]:
        """Return the ids the living engine holds."""
        return await self._live_session().engine.resident_adapters()

    async def prepare_schema(self, schema: str) -> None:
        """Make the living engine ready for a schema. Compiling is no sign of life, and no wait for one: it may take its time."""
        await self._live_session().engine.prepare_schema(schema)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Stream the answer from the living engine; if that dies, the stream ends with EngineDead.

        Of the streams that end with OutputCorrupted the first alone names its adapter: the memory was poisoned before the others.
        """
        session = self._live_session()
        async with aclosing(session.engine.generate(request)) as chunks:
            try:
                # Only the wait for the engine counts as such: a client that reads slowly must not look like a hang.
                while (chunk := await session.next_of(chunks)) is not None:
                    yield chunk
            except OutputCorrupted as error:
                if session.death.result() is not error:
                    raise OutputCorrupted(None) from error
                raise

    async def check(self) -> None:
        """Raise EngineDead unless the engine is serving and its process lives."""
        await self._live_session().engine.check()

    def corrupted_requests(self) -> int:
        """Count the requests with NaN on the current engine."""
        return self._last_session().engine.corrupted_requests()

    async def _keep_alive(self, session: "_Session") -> None:
        while True:
            error = await self._wait_for_death(session)
            _log.error("engine_died", reason=error.reason, message=error.message, cause=repr(error.__cause__))
            self._enter(EngineState.RECOVERING)
            await _stop_dead(session.engine)
            is_stable = self._seams.clock() - session.born_s >= self._policy.stable_after_s
            self._num_failures = 0 if is_stable else self._num_failures + 1
            session = self._session = await self._start_next_session()
            self._enter(EngineState.SERVING)

    async def _wait_for_death(self, session: "_Session") -> EngineDead:
        while not session.death.done():
            await self._examine(session)
            nap = asyncio.create_task(self._seams.sleep(self._policy.poll_s))
            waiting: set[asyncio.Future[EngineDead] | asyncio.Task[None]] = {session.death, nap}
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                nap.cancel()
        return session.death.result()

    async def _examine(self, session: "_Session") -> None:
        """Look for deaths that no call would report: killed while idle, hung while busy, poisoned unseen."""
        try:
            await session.engine.check()
        except EngineDead as error:
            session.declare_dead(error)
        if session.engine.corrupted_requests():
            session.declare_dead(OutputCorrupted(None))
        if (stalled_s := session.stalled_s()) >= self._policy.stall_after_s:
            session.declare_dead(EngineDead(f"The engine gave no output for {stalled_s:.0f} s.", retry_after_s=30.0))

    async def _start_next_session(self) -> "_Session":
        while True:
            await self._seams.sleep(self._policy.backoff_s(self._num_failures))
            try:
                return await self._start_session()
            except Exception:  # noqa: BLE001 - whatever stops one attempt must not stop the next
                self._num_failures += 1
                _log.exception("engine_build_failed", num_failures=self._num_failures)

    async def _start_session(self) -> "_Session":
        engine = await self._build()
        await engine.start()
        return _Session(engine, self._seams.clock)

    def _last_session(self) -> "_Session":
        if self._session is None:
            raise EngineDead("The engine is not built yet; retry in 10 s.", retry_after_s=10.0)
        return self._session

    def _live_session(self) -> "_Session":
        session = self._last_session()
        if self._state is not EngineState.SERVING or session.death.done():
            raise EngineDead("The engine is being rebuilt; retry in 10 s.", retry_after_s=10.0)
        return session

    def _enter(self, state: EngineState) -> None:
        self._state = state
        self._on_state(state)


class _Session:
    """One engine from built to dead, and whether it owes anybody an answer."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.death: asyncio.Future[EngineDead] = asyncio.get_running_loop().create_future()
        self.born_s = clock()
        self._clock = clock
        self._num_awaited = 0
        self._last_sign_s = clock()

    def declare_dead(self, error: EngineDead) -> None:
        """Keep the first cause; the later ones follow from it."""
        if not self.death.done():
            self.death.set_result(error)

    def stalled_s(self) -> float:
        """Return the seconds since the last sign of life; 0 while nothing is asked of the engine."""
        return self._clock() - self._last_sign_s if self._num_awaited else 0.0

    async def next_of(self, chunks: AsyncGenerator[EngineChunk, None]) -> EngineChunk | None:
        """Return the next chunk, None at the end of the stream."""
        with self.awaited():
            return await anext(chunks, None)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Count a wait for the engine; its end is a sign of life, unless it ends with the engine."""
        if not self._num_awaited:
            self._last_sign_s = self._clock()
        self._num_awaited += 1
        try:
            yield
            self._last_sign_s = self._clock()
        except EngineDead as error:
            self.declare_dead(error)
            raise
        finally:
            self._num_awaited -= 1


async def _stop_dead(engine: Engine) -> None:
    try:
        await engine.stop()
    except Exception:  # noqa: BLE001 - a dead engine may fail in any way while it is taken away
        _log.exception("engine_stop_failed")
