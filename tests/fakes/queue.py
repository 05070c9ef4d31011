"""An engine of tokens and steps behind the real queue, with a clock of its own: what is measured of it is exact."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from adaptory.core.errors import Busy
from serve_svc.queue.admission import Admission, AdmissionLimits, AdmissionSeams
from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.fair_share import OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST
from serve_svc.queue.places import Place, PlaceLimits
from serve_svc.queue.slots import Turn
from tests.fakes.clock import ManualClock


class RecordingQueueObserver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.num_waiting: Counter[Urgency] = Counter()
        self.waits_s: defaultdict[Urgency, list[float]] = defaultdict(list)
        self.refusals: Counter[tuple[Urgency, str]] = Counter()

    def queue_changed(self, urgency: Urgency, num_waiting: int) -> None:
        """Keep the newest number."""
        self.num_waiting[urgency] = num_waiting

    def request_started(self, urgency: Urgency, waited_s: float) -> None:
        """Keep every wait."""
        self.waits_s[urgency].append(waited_s)

    def request_refused(self, urgency: Urgency, reason: str) -> None:
        """Count by reason."""
        self.refusals[urgency, reason] += 1


def queue_limits(
    *,
    max_in_flight: int = 100,
    num_kept: int = 0,
    max_adapters: int = 100,
    max_tokens: int = 1_000_000,
    max_unread_tokens: int = 1_000_000,
    max_waiting: int = 1_000,
    max_waiting_per_tenant: int = 1_000,
    turn: Turn = Turn(1_000, 10),  # noqa: B008 - a value
) -> AdmissionLimits:
    """Return limits that only the ones given can reach."""
    return AdmissionLimits(
        PlaceLimits(max_in_flight, num_kept, max_adapters, max_tokens, max_unread_tokens, turn),
        max_waiting,
        max_waiting_per_tenant,
    )


@dataclass(eq=False)
class Request:
    """One request: what it asks, how long its answer really is, and what becomes of it."""

    ask: Ask
    num_output_tokens: int
    arrived_step: int
    served_before: Counter[tuple[Urgency, str, int | None]]
    admitted: AbstractAsyncContextManager[Place]
    task: "asyncio.Task[Place]" = field(init=False)
    started_step: int | None = None
    is_over: bool = False

    @property
    def refusal(self) -> Busy:
        """What it was told instead of a place."""
        error = self.task.exception()
        assert isinstance(error, Busy)
        return error

    @property
    def share(self) -> tuple[Urgency, str, int | None]:
        """Whom its service is counted for."""
        return self.ask.urgency, self.ask.tenant, self.ask.engine_id


class SimulatedEngine:
    """Every step gives each running request one token of its answer, and takes a second. Counts service by itself."""

    def __init__(self, limits: AdmissionLimits, weights: dict[str, float] | None = None) -> None:
        """Stand behind a new queue."""
        self.clock = ManualClock()
        self.observer = RecordingQueueObserver()
        self.weights = weights or {}
        seams = AdmissionSeams(self.clock, lambda tenant: self.weights.get(tenant, 1.0), self.observer)
        self.admission = Admission(limits, seams)
        self.served: Counter[tuple[Urgency, str, int | None]] = Counter()
        self.running: list[Request] = []
        self.waiting: list[Request] = []  # as they came
        self.step_number = 0

    async def ask(self, ask: Ask, num_output_tokens: int = 1) -> Request:
        """Let a request come; it starts, or waits, or is refused."""
        request = Request(ask, num_output_tokens, self.step_number, self.served.copy(), self.admission.admit(ask))
        request.task = asyncio.ensure_future(request.admitted.__aenter__())
        self.waiting.append(request)
        await self._note_starts()
        return request

    async def step(self) -> None:
        """Make one token for each that runs; whoever is done leaves."""
        self.step_number += 1
        self.clock.now_s += 1
        for request in list(self.running):
            place = request.task.result()
            try:
                self.admission.heard(place, place.num_output_tokens + 1)
            except Busy:
                await self.leave(request)
                continue
            self.served[request.share] += OUTPUT_TOKEN_COST
            if place.num_output_tokens == request.num_output_tokens:
                await self.leave(request)
        await self._note_starts()

    async def leave(self, request: Request) -> None:
        """End a request, wherever it is."""
        request.is_over = True
        if request in self.running:
            self.running.remove(request)
            await request.admitted.__aexit__(None, None, None)
        else:
            request.task.cancel()
        await self._note_starts()

    async def disperse(self) -> None:
        """End all that is left."""
        for request in [*self.waiting, *self.running]:
            await self.leave(request)

    async def run_dry(self) -> None:
        """Step until nobody runs or waits."""
        while self.running or self.waiting:
            await self.step()

    def served_by_tenant(self, urgency: Urgency = Urgency.CHAT) -> Counter[str]:
        """Return the service of each tenant, in cost."""
        total: Counter[str] = Counter()
        for (of_urgency, tenant, _), cost in self.served.items():
            if of_urgency is urgency:
                total[tenant] += cost
        return total

    async def _note_starts(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        arrivals, self.waiting = self.waiting, []
        for request in arrivals:
            if not request.task.done():
                self.waiting.append(request)
            elif request.task.cancelled() or request.task.exception() is not None:
                request.is_over = True
            else:
                request.started_step = self.step_number
                self.running.append(request)
                self.served[request.share] += request.ask.num_prompt_tokens * PROMPT_TOKEN_COST


def simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let hypothesis call a test that awaits."""

    def run(**arguments: object) -> None:
        asyncio.run(test(**arguments))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
