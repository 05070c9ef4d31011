"""Who may start, who waits, and in which order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adaptory.core.errors import Busy
from serve_svc.admission import Admission, AdmissionLimits
from tests.fakes.clock import ManualClock, settle


class Crowd:
    """Requests that hold their place until they are told to leave."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}
        self.started: list[str] = []

    async def arrive(self, name: str, tenant: str, engine_id: int | None) -> None:
        """Let a request ask for a place; it may have to wait."""
        self._leave[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name, tenant, engine_id))
        await settle()

    async def leave(self, name: str) -> None:
        """Let a request that runs finish."""
        self._leave[name].set()
        await self._tasks[name]
        await settle()

    async def give_up(self, *names: str) -> None:
        """Cancel requests, whether they run or wait."""
        for name in names:
            self._tasks[name].cancel()
        await asyncio.gather(*(self._tasks[name] for name in names), return_exceptions=True)

    async def disperse(self) -> None:
        """Cancel all that is left."""
        await self.give_up(*self._tasks)

    async def _hold(self, name: str, tenant: str, engine_id: int | None) -> None:
        async with self._admission.admit(tenant, engine_id):
            self.started.append(name)
            await self._leave[name].wait()


def limits(**changes: float) -> AdmissionLimits:
    """Return limits that only the changed one can reach."""
    wide = {
        "max_in_flight": 100,
        "max_adapters": 100,
        "max_waiting": 100,
        "max_waiting_per_tenant": 100,
        "max_wait_s": 10,
    }
    return AdmissionLimits(**{**wide, **changes})  # type: ignore[arg-type]  # whole numbers are whole


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
async def one_place(clock: ManualClock) -> AsyncIterator[Crowd]:
    """A gate that lets one request through at a time."""
    crowd = Crowd(Admission(limits(max_in_flight=1), clock))
    yield crowd
    await crowd.disperse()


@pytest.fixture
async def one_slot(clock: ManualClock) -> AsyncIterator[Crowd]:
    """A gate with places enough and a slot for one adapter."""
    crowd = Crowd(Admission(limits(max_adapters=1), clock))
    yield crowd
    await crowd.disperse()


async def test_tenants_take_turns_and_each_is_served_in_order(one_place: Crowd) -> None:
    """Ten requests of one tenant do not push back the first of another by more than one turn."""
    await one_place.arrive("first", "a", 1)
    for name, tenant in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]:
        await one_place.arrive(name, tenant, 1)

    for name in ("first", "a1", "b1", "a2", "b2"):
        await one_place.leave(name)

    assert one_place.started == ["first", "a1", "b1", "a2", "b2", "a3"]


async def test_no_more_adapters_in_flight_than_slots(one_slot: Crowd) -> None:
    """A second adapter waits until the first has no request left, while more of the first may join."""
    await one_slot.arrive("x1", "a", 1)
    await one_slot.arrive("y1", "b", 2)
    await one_slot.arrive("x2", "a", 1)
    started_at_first = list(one_slot.started)

    await one_slot.leave("x1")
    await one_slot.leave("x2")

    assert started_at_first == ["x1", "x2"]
    assert one_slot.started == ["x1", "x2", "y1"]


async def test_base_model_needs_no_slot(one_slot: Crowd) -> None:
    """Requests without an adapter start beside a full set of adapters."""
    await one_slot.arrive("x1", "a", 1)

    await one_slot.arrive("base", "b", None)

    assert one_slot.started == ["x1", "base"]


async def test_adapter_that_waited_long_goes_before_new_requests_of_running_ones(
    one_slot: Crowd, clock: ManualClock
) -> None:
    """After max_wait_s nobody joins the running adapter any more, so its slot empties for the one that waits."""
    await one_slot.arrive("x1", "a", 1)
    await one_slot.arrive("y1", "b", 2)
    await clock.advance(10)

    await one_slot.arrive("x2", "a", 1)
    started_while_y_waits = list(one_slot.started)
    await one_slot.leave("x1")

    assert started_while_y_waits == ["x1"]
    assert one_slot.started == ["x1", "y1"]


async def test_adapter_under_steady_traffic_cannot_starve_another(one_slot: Crowd, clock: ManualClock) -> None:
    """With a new request of the running adapter before each one leaves, the other still starts right after max_wait_s."""
    await one_slot.arrive("x0", "a", 1)
    await one_slot.arrive("y", "b", 2)

    for number in range(1, 20):
        await one_slot.arrive(f"x{number}", "a", 1)
        await clock.advance(1)
        if f"x{number - 1}" in one_slot.started:
            await one_slot.leave(f"x{number - 1}")

    assert "y" in one_slot.started
    assert one_slot.started.index("y") <= 11


@pytest.mark.parametrize("limit", ["max_waiting", "max_waiting_per_tenant"])
async def test_full_queue_is_refused_with_a_time_to_retry(clock: ManualClock, limit: str) -> None:
    """One more than may wait gets Busy at once; those that wait keep their place."""
    admission = Admission(limits(max_in_flight=1, **{limit: 1}), clock)
    crowd = Crowd(admission)
    await crowd.arrive("runs", "a", 1)
    await crowd.arrive("waits", "a", 1)

    with pytest.raises(Busy) as refusal:
        async with admission.admit("a", 1):
            pytest.fail("was admitted")

    assert refusal.value.retry_after_s is not None
    assert admission.num_waiting == 1
    await crowd.disperse()


async def test_full_queue_of_one_tenant_is_open_to_others(clock: ManualClock) -> None:
    """A tenant that fills its share does not fill everybody's."""
    admission = Admission(limits(max_in_flight=1, max_waiting_per_tenant=1), clock)
    crowd = Crowd(admission)
    for name, tenant in [("runs", "a"), ("waits", "a"), ("other", "b")]:
        await crowd.arrive(name, tenant, 1)

    assert admission.num_waiting == 2
    await crowd.disperse()


async def test_waiter_that_gives_up_leaves_no_trace(clock: ManualClock) -> None:
    """Cancelled waiters are gone from the queue, and whoever stood behind one moves up."""
    admission = Admission(limits(max_adapters=1), clock)
    crowd = Crowd(admission)
    for name, engine_id in [("x1", 1), ("y1", 2), ("x2", 1)]:
        await crowd.arrive(name, "a", engine_id)

    await crowd.give_up("y1")
    await settle()

    assert crowd.started == ["x1", "x2"]
    assert (admission.num_in_flight, admission.num_waiting) == (2, 0)
    await crowd.disperse()


async def test_place_granted_to_a_caller_that_just_left_is_passed_on(clock: ManualClock) -> None:
    """When cancellation and the place meet in one turn of the loop, the place is not lost."""
    admission = Admission(limits(max_in_flight=1), clock)
    crowd = Crowd(admission)
    async with admission.admit("a", 1):
        for name in ("leaves", "next"):
            await crowd.arrive(name, "a", 1)

    await crowd.give_up("leaves")  # its place was granted by the line above, and it has not run since
    await settle()

    assert crowd.started == ["next"]
    await crowd.disperse()


async def test_everything_is_given_back_in_the_end(clock: ManualClock) -> None:
    """After a crowd has left, by finishing, failing or giving up, the gate is as new."""
    admission = Admission(limits(max_in_flight=2, max_adapters=1), clock)
    crowd = Crowd(admission)
    for number in range(6):
        await crowd.arrive(f"r{number}", f"tenant{number % 2}", number % 3 or None)

    await crowd.leave("r0")
    await crowd.disperse()

    assert (admission.num_in_flight, admission.num_waiting) == (0, 0)
