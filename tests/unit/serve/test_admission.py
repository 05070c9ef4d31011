"""Who may start, who waits, in which order, and what those are told who may not."""

import pytest

from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.slots import Turn
from tests.fakes.queue import Request, SimulatedEngine, queue_limits


def ask(tenant: str, engine_id: int | None = None, **changes: object) -> Ask:
    """Return a question of ten tokens that may be answered with ten."""
    return Ask(
        **{
            "tenant": tenant,
            "engine_id": engine_id,
            "urgency": Urgency.CHAT,
            "num_prompt_tokens": 10,
            "max_output_tokens": 10,
            **changes,
        }
    )


async def started_in_turn(engine: SimulatedEngine, **requests: Request) -> list[str]:
    """Let everything run to its end, one place at a time, and return the names in the order in which they started."""
    await engine.run_dry()
    return sorted(requests, key=lambda name: requests[name].started_step or 0)


async def test_tenants_take_turns_and_each_is_served_in_order() -> None:
    """Requests of one tenant do not push back the first of another by more than one turn."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    names = ["first", "a1", "a2", "a3", "b1", "b2"]
    requests = {name: await engine.ask(ask("b" if name[0] == "b" else "a"), 3) for name in names}

    assert await started_in_turn(engine, **requests) == ["first", "b1", "a1", "b2", "a2", "a3"]


async def test_short_answers_earn_more_turns() -> None:
    """Tokens are shared out, not requests: who asks for a quarter is asked four times as often."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    for number in range(60):
        await engine.ask(ask("brief", num_prompt_tokens=2), 1)  # costs 4
        if number % 3 == 0:
            await engine.ask(ask("long", num_prompt_tokens=4), 6)  # costs 16

    while engine.served.total() < 320:
        await engine.step()

    served = engine.served_by_tenant()
    assert abs(served["brief"] - served["long"]) <= 16
    await engine.disperse()


async def test_a_tenant_of_twice_the_weight_gets_twice_the_tokens() -> None:
    """Weights are shares of the service, and hold from the next request when they change."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1), {"paying": 2.0})
    for _ in range(40):
        await engine.ask(ask("paying"), 5)
        await engine.ask(ask("trying"), 5)

    while engine.served.total() < 900:
        await engine.step()

    served = engine.served_by_tenant()
    assert abs(served["paying"] - 2 * served["trying"]) <= 40
    await engine.disperse()


async def test_idle_time_earns_nothing() -> None:
    """A tenant that comes back after long goes first once, and then shares: it saved up nothing."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    for _ in range(30):
        await engine.ask(ask("steady"), 5)
    for _ in range(50):
        await engine.step()
    steady_before = engine.served_by_tenant()["steady"]
    for _ in range(30):
        await engine.ask(ask("back"), 5)

    for _ in range(60):
        await engine.step()

    served = engine.served_by_tenant()
    assert abs(served["back"] - (served["steady"] - steady_before)) <= 40
    await engine.disperse()


async def test_no_more_adapters_in_flight_than_slots() -> None:
    """A second adapter waits until the first has no request left, while more of the first may join."""
    engine = SimulatedEngine(queue_limits(max_adapters=1))
    first = await engine.ask(ask("a", 1), 5)
    other = await engine.ask(ask("b", 2), 5)
    joined = await engine.ask(ask("a", 1), 5)
    assert (first.started_step, other.started_step, joined.started_step) == (0, None, 0)

    for _ in range(5):
        await engine.step()

    assert other.started_step == 5
    await engine.disperse()


async def test_base_model_needs_no_slot() -> None:
    """Requests without an adapter start beside a full set of adapters."""
    engine = SimulatedEngine(queue_limits(max_adapters=1))
    await engine.ask(ask("a", 1), 5)

    base = await engine.ask(ask("b", None), 5)

    assert base.started_step == 0
    await engine.disperse()


async def keep_busy(engine: SimulatedEngine, tenant: str, engine_id: int, other: Request) -> None:
    """Have an adapter asked again, of two requests by turns, whenever one ends, so that it never pauses until `other` starts."""
    while other.started_step is None:
        assert engine.step_number < 1_000
        if sum(request.ask.tenant == tenant for request in [*engine.running, *engine.waiting]) < 2:
            await engine.ask(ask(tenant, engine_id), 4)
        await engine.step()


@pytest.mark.parametrize(
    ("turn", "most"), [(Turn(cost=60, seconds=1_000), 60 + 2 * 18), (Turn(cost=10_000, seconds=5), 5 * 8 + 2 * 18)]
)
async def test_adapter_under_steady_traffic_keeps_its_slot_for_one_turn(turn: Turn, most: int) -> None:
    """Its turn is over after so many tokens, or so many seconds: nobody joins it any more, and the slot is the other's."""
    engine = SimulatedEngine(queue_limits(max_adapters=1, turn=turn))
    for num_output_tokens in (2, 4):
        await engine.ask(ask("busy", 1), num_output_tokens)
    served_before = engine.served_by_tenant()["busy"]
    other = await engine.ask(ask("patient", 2), 5)

    await keep_busy(engine, "busy", 1, other)

    assert engine.served_by_tenant()["busy"] - served_before <= most
    await engine.disperse()


async def test_two_bots_of_one_tenant_share_a_slot() -> None:
    """A tenant's busy bot does not starve its other one."""
    engine = SimulatedEngine(queue_limits(max_adapters=1, turn=Turn(60, 1_000)))
    for num_output_tokens in (2, 4):
        await engine.ask(ask("a", 1), num_output_tokens)
    other = await engine.ask(ask("a", 2), 5)

    while other.started_step is None:
        assert engine.step_number < 200
        if sum(request.ask.engine_id == 1 for request in [*engine.running, *engine.waiting]) < 2:
            await engine.ask(ask("a", 1), 4)
        await engine.step()
    await engine.disperse()


async def test_one_slot_runs_dry_at_a_time() -> None:
    """While a slot empties for one that waits, the requests of the other slots go on starting."""
    engine = SimulatedEngine(queue_limits(max_in_flight=8, max_adapters=3, turn=Turn(40, 1_000)))
    running = [("a", 1), ("b", 2), ("c", 3)]
    for tenant, engine_id in running:
        await engine.ask(ask(tenant, engine_id), 40)
    waits = await engine.ask(ask("d", 4), 8)
    for _ in range(25):  # now they are 50 ahead
        await engine.step()
    more = [await engine.ask(ask(tenant, engine_id), 8) for tenant, engine_id in running]

    assert waits.started_step is None
    assert [request.started_step for request in more].count(None) == 1
    await engine.disperse()


async def test_a_slot_that_nobody_waits_for_any_more_is_open_again() -> None:
    """When the one it was emptied for gives up, its requests start at once."""
    engine = SimulatedEngine(queue_limits(max_adapters=1, turn=Turn(1, 1_000)))
    await engine.ask(ask("a", 1), 100)
    leaver = await engine.ask(ask("b", 2), 5)
    await engine.step()
    held_back = await engine.ask(ask("a", 1), 5)
    assert held_back.started_step is None

    await engine.leave(leaver)

    assert held_back.started_step == engine.step_number
    await engine.disperse()


async def test_completions_go_before_conversations_which_keep_a_fifth() -> None:
    """Who types goes first up to a head start; from then on four tokens to one."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1, turn=Turn(50, 1_000)))
    await engine.ask(ask("first"), 5)
    for _ in range(60):
        await engine.ask(ask("reader"), 5)
    for _ in range(60):
        await engine.ask(ask("typist", urgency=Urgency.INTERACTIVE), 5)

    reader = 0.0
    while not reader:
        await engine.step()
        reader = engine.served_by_tenant()["reader"]
    head_start = engine.served_by_tenant(Urgency.INTERACTIVE).total()
    while (typist := engine.served_by_tenant(Urgency.INTERACTIVE).total()) < head_start + 800:
        await engine.step()

    assert 4 * 50 <= head_start <= 4 * (50 + 10) + 20  # and the 10 that the first got meanwhile
    assert abs((typist - head_start) / 4 - engine.served_by_tenant()["reader"]) <= 30
    await engine.disperse()


async def test_the_next_in_order_waits_for_its_room_and_nobody_goes_before_it() -> None:
    """A long request is not passed by short ones for ever, though they would fit."""
    engine = SimulatedEngine(queue_limits(max_tokens=100))
    await engine.ask(ask("a", num_prompt_tokens=50), 10)
    long = await engine.ask(ask("b", num_prompt_tokens=80), 2)
    short = await engine.ask(ask("a"), 2)
    assert (long.started_step, short.started_step) == (None, None)

    for _ in range(10):
        await engine.step()
    assert (long.started_step, short.started_step) == (10, None)

    await engine.run_dry()


@pytest.mark.parametrize("limits", [{"max_waiting": 1}, {"max_waiting_per_tenant": 1}])
async def test_full_queue_is_refused_with_a_time_to_retry(limits: dict[str, int]) -> None:
    """One more than may wait gets Busy at once; those that wait keep their place."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1, **limits))
    for _ in range(2):
        await engine.ask(ask("a"), 5)

    refused = await engine.ask(ask("a"), 5)

    assert refused.refusal.reason == "QUEUE_FULL"
    assert refused.refusal.retry_after_s is not None
    assert engine.observer.refusals == {(Urgency.CHAT, "QUEUE_FULL"): 1}
    assert len(engine.waiting) == 1
    await engine.disperse()


async def test_a_full_queue_is_open_to_those_who_have_less_in_it() -> None:
    """The newest request of whoever has most waiting gives way, so that a flood fills nobody else's queue."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1, max_waiting=4))
    flood = [await engine.ask(ask("flooder"), 5) for _ in range(5)]

    quiet = await engine.ask(ask("quiet"), 5)

    assert quiet in engine.waiting
    assert flood[-1].refusal.reason == "QUEUE_FULL"
    assert len(engine.waiting) == 4
    await engine.disperse()


async def test_time_to_retry_is_what_the_queue_takes() -> None:
    """Tokens ahead over tokens a second, both as measured."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1, max_waiting=4))
    for _ in range(5):
        await engine.ask(ask("a", max_output_tokens=5), 5)
    for _ in range(15):  # three of them, 20 cost in 5 s each
        await engine.step()
    for _ in range(3):
        await engine.ask(ask("a", max_output_tokens=5), 5)

    refused = await engine.ask(ask("a", max_output_tokens=5), 5)

    # four wait: 5 s each, a little less as long as the mean length of answers is being learned
    assert 10 <= (refused.refusal.retry_after_s or 0) <= 22
    await engine.disperse()


async def test_a_deadline_that_the_queue_cannot_meet_is_refused_at_once() -> None:
    """The estimate of the wait stands in the error; a deadline that can be met waits like any other."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    for _ in range(12):
        await engine.ask(ask("a", max_output_tokens=5), 5)
    for _ in range(10):
        await engine.step()

    late = await engine.ask(ask("a", max_output_tokens=5, left_s=3.0), 5)
    timely = await engine.ask(ask("a", max_output_tokens=5, left_s=300.0), 5)
    other = await engine.ask(ask("b", max_output_tokens=5, left_s=3.0), 5)

    error = late.refusal
    assert error.reason == "DEADLINE_BEFORE_TURN"
    assert float(error.metadata["wait_s"]) > 3
    assert timely in engine.waiting
    assert other in engine.waiting  # the queue is another's: nothing is ahead of its first request
    await engine.disperse()


async def test_a_deadline_is_no_reason_before_the_pace_is_known_nor_on_an_empty_queue() -> None:
    """Nobody is refused for what was not measured."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    for _ in range(3):
        await engine.ask(ask("a"), 5)
    unmeasured = await engine.ask(ask("a", left_s=0.001), 5)
    assert unmeasured in engine.waiting

    await engine.leave(unmeasured)
    for _ in range(12):
        await engine.step()
    alone = await engine.ask(ask("a", left_s=0.001), 5)

    assert alone in engine.waiting
    assert not engine.observer.refusals
    await engine.disperse()


async def test_waiter_that_gives_up_leaves_no_trace() -> None:
    """Cancelled waiters are gone from the queue, and whoever stood behind one moves up."""
    engine = SimulatedEngine(queue_limits(max_tokens=40))
    await engine.ask(ask("a"), 5)
    leaver = await engine.ask(ask("a", num_prompt_tokens=25), 5)
    behind = await engine.ask(ask("a"), 5)

    await engine.leave(leaver)

    assert behind.started_step == 0
    assert (engine.admission.num_in_flight, engine.admission.num_waiting) == (2, 0)
    assert engine.observer.num_waiting == {Urgency.CHAT: 0}
    await engine.disperse()


async def test_place_granted_to_a_caller_that_just_left_is_passed_on() -> None:
    """When cancellation and the place meet in one turn of the loop, the place is not lost, nor the tenant charged for a prompt."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    first = await engine.ask(ask("a"), 5)
    leaver, other, behind = [await engine.ask(ask(tenant), 5) for tenant in ("b", "c", "b")]

    await first.admitted.__aexit__(None, None, None)  # grants the place to the leaver, which has not run since
    engine.running.clear()
    await engine.leave(leaver)
    await engine.run_dry()

    assert leaver.started_step is None
    assert behind.started_step == 0
    assert other.started_step == 5
    assert engine.admission.num_in_flight == 0


async def test_everything_is_given_back_in_the_end() -> None:
    """After a crowd has left, by finishing, failing or giving up, the gate is as new."""
    engine = SimulatedEngine(queue_limits(max_in_flight=2, max_adapters=1))
    requests = [await engine.ask(ask(f"tenant{number % 2}", number % 3 or None), 5) for number in range(6)]
    await engine.leave(requests[0])

    await engine.disperse()

    assert (engine.admission.num_in_flight, engine.admission.num_waiting) == (0, 0)


async def test_a_shadow_takes_only_what_is_spare() -> None:
    """It starts beside others while a place and a slot are left after it, and is dropped where it would take the last."""
    engine = SimulatedEngine(queue_limits(max_in_flight=4, max_adapters=3))
    await engine.ask(ask("a", 1), 5)
    spare = await engine.ask(ask("a", 2, urgency=Urgency.SHADOW), 5)
    last_slot = await engine.ask(ask("a", 3, urgency=Urgency.SHADOW), 5)
    same_slot = await engine.ask(ask("a", 2, urgency=Urgency.SHADOW), 5)
    last_place = await engine.ask(ask("a", 2, urgency=Urgency.SHADOW), 5)

    assert [spare.started_step, same_slot.started_step] == [0, 0]
    assert [request.refusal.reason for request in (last_slot, last_place)] == ["SHADOW_DROPPED"] * 2
    await engine.disperse()


async def test_a_shadow_leaves_within_a_step_when_somebody_waits() -> None:
    """It delays nobody by more, whether its place is wanted or its slot; and nobody is charged for it."""
    engine = SimulatedEngine(queue_limits(max_in_flight=3, max_adapters=2))
    shadow = await engine.ask(ask("a", 1, urgency=Urgency.SHADOW), 50)
    await engine.ask(ask("b", 2), 50)
    waits = await engine.ask(ask("c", 3), 5)
    assert waits.started_step is None

    await engine.step()

    assert shadow.is_over
    assert waits.started_step == 1
    assert engine.observer.refusals == {(Urgency.SHADOW, "SHADOW_YIELDS"): 1}
    await engine.disperse()


async def test_a_shadow_never_starts_while_somebody_waits() -> None:
    """Even where a place is free, because the one who waits wants a slot."""
    engine = SimulatedEngine(queue_limits(max_adapters=1))
    await engine.ask(ask("a", 1), 50)
    await engine.ask(ask("b", 2), 5)

    shadow = await engine.ask(ask("a", 1, urgency=Urgency.SHADOW), 5)

    assert shadow.refusal.reason == "SHADOW_DROPPED"
    await engine.disperse()


async def test_waits_are_told_by_urgency() -> None:
    """Those that start at once wait for nothing, those that wait for as long as they do."""
    engine = SimulatedEngine(queue_limits(max_in_flight=1))
    await engine.ask(ask("a"), 4)
    await engine.ask(ask("b", urgency=Urgency.INTERACTIVE), 4)

    await engine.run_dry()

    assert engine.observer.waits_s == {Urgency.CHAT: [0], Urgency.INTERACTIVE: [4]}
