"""What one tenant that asks much costs those who ask seldom: places are kept for them, and few prompts begin together."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.slots import Turn
from tests.fakes.queue import Request, SimulatedEngine, queue_limits, simulated


async def wait_of_quiet_tenants(*, flood: int, num_kept: int = 0) -> list[int]:
    """Return the waits, in steps, of nine tenants with one request at a time, beside one with `flood` requests at a time."""
    engine = SimulatedEngine(queue_limits(max_in_flight=8, num_kept=num_kept, max_adapters=10, turn=Turn(60, 1_000)))
    quiet: list[Request] = []
    for number in range(600):
        flooding = sum(request.ask.tenant == "flooder" for request in [*engine.running, *engine.waiting])
        for _ in range(flood - flooding):
            await engine.ask(Ask("flooder", 0, Urgency.CHAT, 20, 20), 20)
        if number % 5 == 0:
            tenant = 1 + number // 5 % 9
            quiet.append(await engine.ask(Ask(f"quiet{tenant}", tenant, Urgency.CHAT, 20, 20), 20))
        await engine.step()
    await engine.disperse()
    return sorted(request.started_step - request.arrived_step for request in quiet if request.started_step is not None)


async def test_a_tenant_that_floods_does_not_push_quiet_ones_back() -> None:
    """At 20 times the load of each other, it costs them a step or so: the time until a place is free, never its own queue."""
    alone, beside_one, beside_flood = [await wait_of_quiet_tenants(flood=flood) for flood in (0, 8, 160)]

    assert len(beside_flood) >= len(alone) - 1
    assert max(alone) == 0
    assert max(beside_flood) <= 20  # one answer
    assert beside_flood == beside_one  # twenty times as much in its queue changes nothing for them


async def test_places_are_kept_for_tenants_of_whom_little_runs() -> None:
    """Whoever asks seldom starts at once, though the one who floods has filled every place that is not kept."""
    assert max(await wait_of_quiet_tenants(flood=160)) > 0
    assert max(await wait_of_quiet_tenants(flood=160, num_kept=4)) == 0


async def test_what_quiet_tenants_leave_of_their_parts_is_shared_out() -> None:
    """Of eight places five tenants would get 1.6 each; where three ask for one, the others have 2.5 and may begin a third."""
    engine = SimulatedEngine(queue_limits(max_in_flight=8, num_kept=8))
    for _ in range(30):
        await engine.ask(Ask("flooder", None, Urgency.CHAT, 1, 50), 50)
    asked = ["a", "b", "c", "d", "a", "a", "a"]

    quiet = [await engine.ask(Ask(tenant, None, Urgency.CHAT, 1, 50), 50) for tenant in asked]

    assert [request.started_step for request in quiet] == [0, 0, 0, 0, 0, 0, None]
    await engine.disperse()


@settings(max_examples=200, deadline=None)
@given(
    max_in_flight=st.integers(1, 16),
    num_kept=st.integers(1, 16),
    weights=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=2, max_size=9),
    arrivals=st.lists(st.integers(0, 8), min_size=5, max_size=30),
)
@simulated
async def test_no_kept_place_goes_to_a_tenant_that_has_its_part(
    max_in_flight: int, num_kept: int, weights: list[float], arrivals: list[int]
) -> None:
    """One that is alone never gets them; beside others, whoever starts in one had less running than its part, by weight."""
    weight_of = {f"tenant{number}": weight for number, weight in enumerate(weights)}
    engine = SimulatedEngine(queue_limits(max_in_flight=max_in_flight, num_kept=num_kept), weight_of)
    for number in range(max_in_flight + num_kept + 1):
        await engine.ask(Ask("first", None, Urgency.CHAT, 1, 5), 5)
        assert len(engine.running) <= max_in_flight, number
    for arrival in arrivals:
        tenant = f"tenant{arrival % len(weights)}"
        request = await engine.ask(Ask(tenant, None, Urgency.CHAT, 1, 5), 5)
        running = Counter(request.ask.tenant for request in engine.running)
        asked = running + Counter(request.ask.tenant for request in engine.waiting)
        assert running.total() <= max_in_flight + num_kept
        assert running["first"] == max_in_flight
        has_started = request in engine.running
        has_room = running.total() - has_started < max_in_flight + num_kept
        has_less = running[tenant] - has_started < max_min_part(tenant, asked, weight_of, max_in_flight) - 0.01
        assert has_started == (has_room and has_less)
    await engine.disperse()


def max_min_part(tenant: str, asked: Counter[str], weight_of: dict[str, float], num_places: int) -> float:
    """Return how many places are a tenant's, as water fills them: all are given more, by weight, until they have what they ask."""
    given = dict.fromkeys(asked, 0.0)
    drop = 0.002
    while sum(given.values()) < num_places - 2 * drop * len(given):
        thirsty = [other for other in asked if given[other] < asked[other]]
        if not thirsty:
            return math.inf
        for other in thirsty:
            given[other] += drop * weight_of.get(other, 1.0)
    return max(given[other] / weight_of.get(other, 1.0) for other in asked) * weight_of.get(tenant, 1.0)


async def test_prompts_of_one_tenant_are_read_a_few_at_a_time() -> None:
    """All places are free, yet they begin two by two; whoever comes beside them begins at once, however much is being read."""
    engine = SimulatedEngine(queue_limits(max_unread_tokens=100))
    flood = [await engine.ask(Ask("flooder", None, Urgency.CHAT, 50, 30), 30) for _ in range(100)]
    quiet = [await engine.ask(Ask("quiet", None, Urgency.CHAT, 45, 30), 30) for _ in range(2)]
    assert [request.started_step for request in [*flood[:3], *quiet]] == [0, 0, None, 0, 0]

    await engine.step()
    await engine.step()
    await engine.disperse()

    assert [request.started_step for request in flood[:7]] == [0, 0, 1, 1, 2, 2, None]


async def test_a_prompt_longer_than_may_be_unread_is_the_only_one_of_its_tenant() -> None:
    """It waits for its tenant's other prompts to be read, and those behind it wait for it."""
    engine = SimulatedEngine(queue_limits(max_unread_tokens=100))
    asks = [Ask("acme", None, Urgency.CHAT, length, 9) for length in (60, 500, 20)]
    first, long, last = [await engine.ask(ask, 9) for ask in asks]
    assert (first.started_step, long.started_step, last.started_step) == (0, None, None)

    await engine.step()
    await engine.step()
    await engine.disperse()

    assert (long.started_step, last.started_step) == (1, 2)


async def test_a_request_that_ends_before_its_first_token_keeps_nobody_from_beginning() -> None:
    """An unread prompt whose caller has left is not waited for."""
    engine = SimulatedEngine(queue_limits(max_unread_tokens=10))
    first, second = [await engine.ask(Ask("acme", None, Urgency.CHAT, 10, 9), 9) for _ in range(2)]
    assert second.started_step is None

    await engine.leave(first)

    assert second.started_step == 0
    await engine.disperse()
