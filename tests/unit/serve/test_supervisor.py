"""How an engine's death is noticed, what happens to what ran on it, and how the next one comes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from adaptory.core.base_shape import LINEAR_MODULES
from adaptory.core.errors import ServiceError
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import (
    Engine,
    EngineAdapter,
    EngineDead,
    EngineDiedLoading,
    EngineRequest,
    Sampling,
)
from serve_svc.engine.supervisor import EngineState, Supervisor, SupervisorPolicy, SupervisorSeams
from tests.adapters import random_tensors, tiny_shape, write_adapter, write_weights
from tests.fakes.clock import ManualClock, settle
from tests.fakes.engine import FakeVllm, fake_engine

POLICY = SupervisorPolicy(poll_s=1.0, stall_after_s=30.0, stable_after_s=100.0, first_backoff_s=2.0, max_backoff_s=5.0)


class Workshop:
    """Builds fakes for a supervisor, as many as it asks for; the first `num_failing` builds after `fail` end badly."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.backends: list[FakeVllm] = []
        self.states: list[EngineState] = []
        self.num_attempts = 0
        self.num_failing = 0
        seams = SupervisorSeams(clock, clock.sleep)
        self.supervisor = Supervisor(self._build, POLICY, seams, self.states.append)

    @property
    def backend(self) -> FakeVllm:
        """The fake below the engine that was built last."""
        return self.backends[-1]

    async def pass_time(self, seconds: int) -> None:
        """Let the time pass second by second, with everything that happens meanwhile."""
        for _ in range(seconds):
            await self.clock.advance(1.0)

    async def _build(self) -> Engine:
        self.num_attempts += 1
        if self.num_failing:
            self.num_failing -= 1
            raise EngineDead("could not be built")
        engine, backend = fake_engine()
        self.backends.append(backend)
        return engine


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    """A workshop whose supervisor serves."""
    shop = Workshop(ManualClock())
    await shop.supervisor.start()
    await settle()
    yield shop
    await shop.supervisor.stop()


def request(adapter: EngineAdapter | None = None, num_tokens: int = 3) -> EngineRequest:
    """Return a small request."""
    return EngineRequest("r", (1, 2, 3), Sampling(num_tokens, 0.0, 1.0, None, ()), adapter, "salt")


def make_adapter(folder: Path, engine_id: int = 1, *, is_poison: bool = False) -> EngineAdapter:
    """Write a good adapter, or one that computes NaN."""
    write_adapter(folder, tiny_shape())
    if is_poison:
        tensors = random_tensors(tiny_shape(), 8, LINEAR_MODULES)
        write_weights(folder, {name: tensor * float("nan") for name, tensor in tensors.items()})
    return EngineAdapter(engine_id, f"t/b@{engine_id}", folder)


async def read_all(supervisor: Supervisor, asked: EngineRequest) -> str:
    """Return the whole answer."""
    async with aclosing(supervisor.generate(asked)) as chunks:
        return "".join([chunk.text async for chunk in chunks])


async def outcome(answer: "asyncio.Task[str]") -> str | ServiceError:
    """Return the answer, or the error it ended with."""
    try:
        return await answer
    except ServiceError as error:
        return error


async def test_engine_killed_while_idle_is_replaced(shop: Workshop) -> None:
    """A death that no request meets is seen by the next poll, and the next engine serves."""
    shop.backend.kill()
    await shop.pass_time(5)

    assert shop.states == [EngineState.STARTING, EngineState.SERVING, EngineState.RECOVERING, EngineState.SERVING]
    assert await read_all(shop.supervisor, request()) == "base base base "


async def test_stream_on_a_dying_engine_ends_with_it(shop: Workshop) -> None:
    """A stream in flight is told at once that its engine is gone, and the state follows without waiting for a poll."""
    async with aclosing(shop.supervisor.generate(request(num_tokens=100))) as chunks:
        await anext(chunks)
        shop.backend.kill()

        with pytest.raises(EngineDead):
            await drain(chunks)
    await settle()

    assert shop.supervisor.state is EngineState.RECOVERING


async def test_calls_are_refused_while_there_is_no_engine(shop: Workshop) -> None:
    """Between two engines every call fails at once with a retry time, and none reaches the dead one."""
    shop.num_failing = 100
    shop.backend.kill()
    await shop.pass_time(3)

    with pytest.raises(EngineDead) as refusal:
        await shop.supervisor.resident_adapters()

    assert refusal.value.retry_after_s == 10.0


async def test_hung_engine_is_replaced_and_its_streams_end(shop: Workshop) -> None:
    """An engine that owes a token for stall_after_s is dead, healthy as it looks."""
    answer = asyncio.create_task(read_all(shop.supervisor, request(num_tokens=200)))
    shop.backend.hang()
    await settle()
    await shop.pass_time(35)

    assert isinstance(await outcome(answer), EngineDead)
    assert len(shop.backends) == 2
    assert shop.supervisor.state is EngineState.SERVING


async def test_slow_reader_is_no_hang(shop: Workshop) -> None:
    """A client that takes no token for minutes costs nobody an engine."""
    async with aclosing(shop.supervisor.generate(request(num_tokens=2))) as chunks:
        await anext(chunks)
        await shop.pass_time(90)

        assert (await anext(chunks)).text == "base "
    assert len(shop.backends) == 1


async def test_idle_engine_is_no_hang(shop: Workshop) -> None:
    """Nothing is owed while nothing is asked."""
    await shop.pass_time(90)

    assert len(shop.backends) == 1


async def test_attempts_back_off_until_one_succeeds(shop: Workshop) -> None:
    """After failures the waits are 2, 4, 5, 5 seconds: doubled, and capped."""
    shop.num_failing = 4
    shop.backend.kill()
    attempts: list[int] = []
    for second in range(25):
        before = shop.num_attempts
        await shop.clock.advance(1.0)
        attempts += [second] * (shop.num_attempts - before)

    assert [later - earlier for earlier, later in itertools.pairwise(attempts)] == [4, 5, 5, 5]
    assert shop.supervisor.state is EngineState.SERVING


async def test_engine_that_lived_long_is_replaced_without_delay(shop: Workshop) -> None:
    """A death after stable_after_s is no failed attempt."""
    await shop.pass_time(101)

    shop.backend.kill()
    await shop.pass_time(1)

    assert shop.supervisor.state is EngineState.SERVING


async def test_load_that_ends_with_the_engine_says_so(shop: Workshop, tmp_path: Path) -> None:
    """Whoever asked for the load is told that it may be to blame; one that finds no engine is not."""
    adapter = make_adapter(tmp_path / "a")
    shop.backend.hold_loads()
    load = asyncio.create_task(shop.supervisor.load_adapter(adapter))
    await settle()
    shop.backend.kill()
    await shop.pass_time(1)
    with pytest.raises(EngineDead) as late:
        await shop.supervisor.load_adapter(adapter)

    assert isinstance(load.exception(), EngineDiedLoading)
    assert not isinstance(late.value, EngineDiedLoading)


async def test_poison_names_the_adapter_that_brought_it_alone(shop: Workshop, tmp_path: Path) -> None:
    """NaN recycles the engine; streams that meet the poisoned memory after the first are told of it without a suspect."""
    poison, good = make_adapter(tmp_path / "p", 1, is_poison=True), make_adapter(tmp_path / "g", 2)
    await shop.supervisor.load_adapter(poison)
    await shop.supervisor.load_adapter(good)
    async with aclosing(shop.supervisor.generate(request(good))) as bystander:
        await anext(bystander)
        with pytest.raises(OutputCorrupted) as culprit:
            await read_all(shop.supervisor, request(poison))
        with pytest.raises(OutputCorrupted) as victim:
            await anext(bystander)
    await shop.pass_time(5)
    await shop.supervisor.load_adapter(good)

    assert (culprit.value.adapter, victim.value.adapter) == (poison, None)
    assert len((await read_all(shop.supervisor, request(good))).split()) == 3


async def test_poison_that_no_stream_saw_is_found_by_the_count(shop: Workshop, tmp_path: Path) -> None:
    """When the client of the poisoned request has left, the engine's own count still ends the engine."""
    poison = make_adapter(tmp_path / "p", is_poison=True)
    await shop.supervisor.load_adapter(poison)
    with pytest.raises(OutputCorrupted):
        await drain(shop.backend.generate(request(poison)))

    await shop.pass_time(5)

    assert len(shop.backends) == 2


async def test_first_engine_that_cannot_be_built_stops_the_start() -> None:
    """A wrong base folder is told to whoever starts the service, not tried for ever."""
    shop = Workshop(ManualClock())
    shop.num_failing = 1

    with pytest.raises(EngineDead):
        await shop.supervisor.start()


async def test_engine_that_leaves_while_the_service_drains_is_not_replaced(shop: Workshop) -> None:
    """After stop_recovering streams still run to their end, and no new engine follows the old one."""
    async with aclosing(shop.supervisor.generate(request(num_tokens=2))) as chunks:
        await anext(chunks)
        shop.supervisor.stop_recovering()
        await drain(chunks)

    shop.backend.kill()
    await shop.pass_time(10)

    assert shop.num_attempts == 1


async def test_stopped_supervisor_builds_nothing_more(shop: Workshop) -> None:
    """After stop the engine's end is not a death."""
    await shop.supervisor.stop()
    await shop.pass_time(10)

    assert (shop.num_attempts, shop.supervisor.state) == (1, EngineState.STOPPED)


async def drain(chunks: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async for _ in chunks:
        pass
