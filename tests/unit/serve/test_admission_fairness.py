"""What the queue promises whatever comes: hypothesis picks the tenants, their weights, adapters, prompts, answers and arrivals."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.fair_share import OUTPUT_TOKEN_COST
from serve_svc.queue.slots import Turn
from tests.fakes.queue import Request, SimulatedEngine, queue_limits, simulated

LONGEST = 8  # tokens of a prompt, and of an answer
lengths = st.integers(1, LONGEST)


@dataclass(frozen=True)
class Engine:
    """Sizes of a simulated engine, and what they bound."""

    max_in_flight: int
    num_kept: int
    max_adapters: int
    max_tokens: int
    max_unread_tokens: int
    turn: Turn

    def build(self, weights: dict[str, float]) -> SimulatedEngine:
        """Return one with nothing in it."""
        limits = queue_limits(
            max_in_flight=self.max_in_flight,
            num_kept=self.num_kept,
            max_adapters=self.max_adapters,
            max_tokens=self.max_tokens,
            max_unread_tokens=self.max_unread_tokens,
            turn=self.turn,
        )
        return SimulatedEngine(limits, weights)

    def can_still_cost(self, weight: float) -> float:
        """Return U of the queue's promises."""
        return OUTPUT_TOKEN_COST * self.max_tokens / weight

    def check(self, engine: SimulatedEngine) -> None:
        """Require that no limit is passed."""
        asks = [request.ask for request in engine.running]
        assert len(asks) == engine.admission.num_in_flight <= self.max_in_flight + self.num_kept
        assert len({ask.engine_id for ask in asks} - {None}) <= self.max_adapters
        assert sum(ask.max_tokens for ask in asks) <= self.max_tokens
        for prompts in unread_prompts(engine).values():
            assert len(prompts) == 1 or sum(prompts) <= self.max_unread_tokens


def unread_prompts(engine: SimulatedEngine) -> dict[tuple[Urgency, str], list[int]]:
    """Return the lengths of the prompts that have begun and have no token of their answer, by tenant."""
    unread: dict[tuple[Urgency, str], list[int]] = {}
    for request in engine.running:
        if not request.task.result().is_read:
            ask = request.ask
            unread.setdefault((ask.urgency, ask.tenant), []).append(ask.num_prompt_tokens)
    return unread


def must_wait_for_reading(sizes: Engine, engine: SimulatedEngine, ask: Ask) -> bool:
    """Tell whether a prompt would be too much beside those of its tenant that are being read."""
    unread = unread_prompts(engine).get((ask.urgency, ask.tenant), [])
    return bool(unread) and sum(unread) + ask.num_prompt_tokens > sizes.max_unread_tokens


engines = st.builds(
    Engine,
    max_in_flight=st.integers(1, 4),
    num_kept=st.integers(0, 3),
    max_adapters=st.integers(1, 3),
    max_tokens=st.integers(2 * LONGEST, 4 * LONGEST),
    max_unread_tokens=st.integers(1, 4 * LONGEST),
    turn=st.builds(Turn, st.integers(1, 30).map(float), st.integers(1, 100).map(float)),
)


@dataclass(frozen=True)
class Tenant:
    """A tenant that always asks alike: with each of its adapters, by turns."""

    name: str
    weight: float
    adapters: tuple[int | None, ...]
    num_prompt_tokens: int
    num_output_tokens: int

    def ask(self, number: int, *, urgency: Urgency = Urgency.CHAT) -> Ask:
        """Return its next question."""
        adapter = self.adapters[number % len(self.adapters)]
        return Ask(self.name, adapter, urgency, self.num_prompt_tokens, LONGEST)


@st.composite
def tenants(draw: st.DrawFn) -> list[Tenant]:
    """Return two to five tenants, each with adapters of its own, or with the base."""
    drawn = []
    for number in range(draw(st.integers(2, 5))):
        adapters = draw(st.sampled_from([(None,), (10 * number,), (10 * number, 10 * number + 1)]))
        weight = draw(st.sampled_from([0.5, 1.0, 3.0]))
        drawn.append(Tenant(f"tenant{number}", weight, adapters, draw(lengths), draw(lengths)))
    return drawn


@settings(max_examples=30, deadline=None)
@given(sizes=engines, tenants=tenants())
@simulated
async def test_tenants_that_always_wait_are_served_by_their_weights(sizes: Engine, tenants: list[Tenant]) -> None:
    """From any moment to any other, cost over weight differs by 2(2Q + U) at most, whatever their lengths and adapters."""
    engine = sizes.build({tenant.name: tenant.weight for tenant in tenants})
    served = []
    for _ in range(200):
        await step_under_load(engine, sizes, tenants)
        total = engine.served_by_tenant()
        served.append({tenant: total[tenant.name] / tenant.weight for tenant in tenants})
    await engine.disperse()

    for one, other in permutations(tenants, 2):
        leads = [now[one] - now[other] for now in served]
        most = max(sizes.can_still_cost(tenant.weight) for tenant in (one, other))
        assert max(leads) - min(leads) <= 2 * (2 * sizes.turn.cost + most)


@dataclass(frozen=True)
class Visit:
    """A request of a tenant that is there now and then, with an adapter of its own, or the base, after some steps."""

    number: int
    has_adapter: bool
    urgency: Urgency
    num_prompt_tokens: int
    num_output_tokens: int
    after: int

    def ask(self) -> Ask:
        """Return its question."""
        adapter = 100 + 2 * self.number + (self.urgency is Urgency.CHAT) if self.has_adapter else None
        return Ask(f"visitor{self.number}", adapter, self.urgency, self.num_prompt_tokens, LONGEST)


urgencies = st.sampled_from([Urgency.CHAT, Urgency.INTERACTIVE])
visits = st.lists(
    st.builds(Visit, st.integers(0, 3), st.booleans(), urgencies, lengths, lengths, st.integers(0, 12)), max_size=12
)


@settings(max_examples=30, deadline=None)
@given(sizes=engines, tenants=tenants(), visits=visits)
@simulated
async def test_whoever_waits_sees_others_get_a_bounded_service(
    sizes: Engine, tenants: list[Tenant], visits: list[Visit]
) -> None:
    """Beside tenants that never pause, each visitor starts before any of them got 4Q + 3U times its weight."""
    weights = {tenant.name: tenant.weight for tenant in tenants}
    engine = sizes.build(weights)
    requests: list[Request] = []
    for visit in visits:
        for _ in range(visit.after):
            await step_under_load(engine, sizes, tenants)
        requests.append(await engine.ask(visit.ask(), visit.num_output_tokens))
    while any(request.started_step is None for request in requests):
        await step_under_load(engine, sizes, tenants)
        for request in requests:
            if request.started_step is None:
                check_others(sizes, engine, request, weights)

    await engine.run_dry()
    assert engine.admission.num_waiting == engine.admission.num_in_flight == 0


async def step_under_load(engine: SimulatedEngine, sizes: Engine, tenants: list[Tenant]) -> None:
    """Have each tenant wait with more requests than a step can start, and step."""
    for tenant in tenants:
        num_waiting = sum(request.ask.tenant == tenant.name for request in engine.waiting)
        for more in range(sizes.max_in_flight + sizes.num_kept + 1 - num_waiting):
            await engine.ask(tenant.ask(engine.step_number + more), tenant.num_output_tokens)
    sizes.check(engine)
    await engine.step()


def check_others(sizes: Engine, engine: SimulatedEngine, request: Request, weights: dict[str, float]) -> None:
    """Require the bound on what the other tenants of its urgency got while a request has waited, and its tenant got nothing."""
    gained: Counter[str] = Counter()
    for (urgency, tenant, _), cost in (engine.served - request.served_before).items():
        if urgency is request.ask.urgency:
            gained[tenant] += cost
    if request.ask.tenant not in gained:
        most = 4 * sizes.turn.cost + 3 * sizes.can_still_cost(min(1.0, *weights.values()))
        assert all(cost <= weights.get(tenant, 1.0) * most for tenant, cost in gained.items())


@settings(max_examples=30, deadline=None)
@given(
    sizes=engines,
    tenants=tenants(),
    history=st.lists(st.tuples(st.sampled_from("aaasc"), st.integers(0, 30), lengths), max_size=80),
)
@simulated
async def test_no_place_is_idle_that_somebody_could_take(
    sizes: Engine, tenants: list[Tenant], history: list[tuple[str, int, int]]
) -> None:
    """With slots for all, a request waits only for places, prompts of its tenant being read, or as one is too long; gone is gone."""
    sizes = replace(sizes, max_adapters=100)
    engine = sizes.build({tenant.name: tenant.weight for tenant in tenants})
    for number, (kind, pick, length) in enumerate(history):
        present = [*engine.running, *engine.waiting]
        if kind == "a":
            await engine.ask(tenants[pick % len(tenants)].ask(number), length)
        elif kind == "s":
            await engine.step()
        elif present:
            await engine.leave(present[pick % len(present)])
        sizes.check(engine)
        num_tokens = sum(request.ask.max_tokens for request in engine.running)
        assert engine.admission.num_waiting == len(engine.waiting) == engine.observer.num_waiting[Urgency.CHAT]
        assert (
            not engine.waiting
            or len(engine.running) >= sizes.max_in_flight
            or num_tokens + max(request.ask.max_tokens for request in engine.waiting) > sizes.max_tokens
            or all(must_wait_for_reading(sizes, engine, request.ask) for request in engine.waiting)
        )

    await engine.run_dry()
    assert engine.admission.num_waiting == engine.admission.num_in_flight == 0
