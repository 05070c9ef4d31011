"""Decides when a request may start: a fair, bounded queue in front of the engine.

It exists because vLLM's queue knows no tenants, and skips a request whose adapter finds no slot for as long as the running adapters
keep receiving traffic. So no more is let in than the engine runs at once, and the order is made here. The counters that make it are
`fair_share.py`, what may run at once `places.py` and `slots.py`, what those are told who may not wait `refusals.py`; loading is
`adapters/cache.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from adaptory.core.errors import Busy
from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.fair_share import OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, Share
from serve_svc.queue.pace import Pace
from serve_svc.queue.places import Place, PlaceLimits, Places
from serve_svc.queue.refusals import QueueView, deadline_before_turn, queue_full, shadow_dropped, shadow_yields

# Share of the engine while both wait, once INTERACTIVE has used its head start: four fifths, so chat keeps one.
_WEIGHTS = {Urgency.INTERACTIVE: 4.0, Urgency.CHAT: 1.0}


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may run at once, and how many requests may wait: of all tenants, and of one tenant in one urgency."""

    places: PlaceLimits
    max_waiting: int
    max_waiting_per_tenant: int


class QueueObserver(Protocol):
    """Told what happens to requests, for metrics; its methods must not block or raise."""

    def queue_changed(self, urgency: Urgency, num_waiting: int) -> None:
        """Report how many wait now."""

    def request_started(self, urgency: Urgency, waited_s: float) -> None:
        """Report a request that got its place."""

    def request_refused(self, urgency: Urgency, reason: str) -> None:
        """Report one that got none or lost it, under its error's reason."""


@dataclass(frozen=True, slots=True)
class AdmissionSeams:
    """The clock, monotonic and in seconds; the weights of tenants, positive, which may change at any time; who is told."""

    clock: Callable[[], float]
    weight_of: Callable[[str], float]
    observer: QueueObserver


@dataclass(eq=False, slots=True)
class _Waiter:
    ask: Ask
    tenant: "Share[_Waiter]"
    leaf: "Share[_Waiter]"
    cost: float  # expected
    since_s: float
    granted: "asyncio.Future[Place]"


class Admission:
    """Lets requests start in the order of `Share.leaves`: by urgency, then the tenant served least, then its adapter served least.

    It passes over leaves whose adapter finds no slot, or whose tenant must wait for its prompts to be read, and starts the first that
    can. So a place that is not kept (`PlaceLimits`) is idle only while a slot runs dry for somebody, all who wait have prompts being
    read, or the next in order is too long for `max_tokens`. What passing over may cost is bounded: an adapter's turn ends when its
    share is `turn.cost` ahead (`slots.py`), and nobody starts who is twice that ahead of anybody that was passed over.

    What follows, where a counter is cost over weight, Q is `turn.cost`, and U is 2 * `max_tokens` over the weight, the most that what
    runs can still add to a counter, however many answers it is:
    - The counter of any share is at most 2Q + U above that of a sibling that waits. For it starts only when no sibling that waits is
      2Q below, what runs adds U at most, and lifting keeps it true.
    - So two siblings that both wait from one moment to another are served alike, in cost over weight, up to 2(2Q + U). That is the
      paper's bound, 2U, and what changing slots adds; where no slot is short, Q counts for nothing.
    - So while a request waits and nothing of its share is served, each other share of its level gets at most 4Q + 3U times its own
      weight, however many requests come. The engine need only promise that what runs ends.

    INTERACTIVE and CHAT are siblings, of weight 4 to 1, and the first has a head start of Q: it goes first, but while it never
    pauses, chat gets one fifth as soon as INTERACTIVE is Q ahead. SHADOW is outside of all this: see `admit`.
    """

    def __init__(self, limits: AdmissionLimits, seams: AdmissionSeams) -> None:
        """Start empty."""
        self._limits = limits
        self._seams = seams
        self._shares: Share[_Waiter] = Share()
        self._places = Places(limits.places, seams.clock)
        self._pace = Pace(seams.clock)

    @property
    def num_in_flight(self) -> int:
        """Requests that hold a place."""
        return self._places.num_taken

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return self._shares.num_waiting

    @asynccontextmanager
    async def admit(self, ask: Ask) -> AsyncIterator[Place]:
        """Hold a place while the block runs; waits for its turn. A caller that is cancelled while waiting leaves no trace.

        A SHADOW never waits. It starts where nobody waits and, after it, a place and a slot are still free, and `heard` ends it as
        soon as somebody does wait: it delays others by one step of the engine.

        Raises:
            Busy: With a retry time computed from the queue. QUEUE_FULL: too many wait; of all tenants, those with most waiting lose
                their newest first. DEADLINE_BEFORE_TURN: the queue ahead alone takes longer than the deadline leaves; never said
                where nobody is ahead, or before the pace was measured. SHADOW_DROPPED.
        """
        place = self._start_shadow(ask) if ask.urgency is Urgency.SHADOW else await self._wait_for_place(ask)
        try:
            yield place
        finally:
            self._release(place)

    def heard(self, place: Place, num_output_tokens: int) -> None:
        """Charge the answer, `num_output_tokens` long so far. Raises Busy, SHADOW_YIELDS, for a shadow while anybody waits."""
        num_new = num_output_tokens - place.num_output_tokens
        is_first = self._places.hear(place, num_output_tokens)
        self._charge(place, num_new * OUTPUT_TOKEN_COST)
        if is_first:
            self._start_waiting()  # whoever of its tenant was kept from beginning beside it
        if place.share is None and self.num_waiting:
            raise self._told(place.ask, shadow_yields())

    async def _wait_for_place(self, ask: Ask) -> Place:
        tenant = self._tenants(ask.urgency).child(ask.tenant, weight=self._seams.weight_of(ask.tenant))
        leaf = tenant.child(ask.engine_id)
        cost = self._pace.expect_cost(ask.num_prompt_tokens, ask.max_output_tokens)
        waiter = _Waiter(ask, tenant, leaf, cost, self._seams.clock(), asyncio.get_running_loop().create_future())
        leaf.put(waiter, cost)
        self._queue_changed(ask.urgency)
        self._start_waiting()
        try:
            if not waiter.granted.done():
                self._refuse_late(waiter)
                self._refuse_overflow(waiter)
            return await waiter.granted
        except (Busy, asyncio.CancelledError):
            self._give_up(waiter)
            raise

    def _tenants(self, urgency: Urgency) -> Share[_Waiter]:
        head_start = self._limits.places.turn.cost if urgency is Urgency.INTERACTIVE else 0.0
        return self._shares.child(urgency, weight=_WEIGHTS[urgency], head_start=head_start)

    def _start_waiting(self) -> None:
        while self._places.has_room and (leaf := self._places.find_next(list(self._shares.leaves()))):
            waiter = leaf.queue[0]
            if not self._places.fits(waiter.ask):
                return  # others, shorter, must not keep it from ever fitting
            self._leave_queue(waiter)
            if waiter.granted.cancelled():  # its caller gave up in this very turn and is about to run
                leaf.end()
            else:
                waiter.granted.set_result(self._start(waiter.ask, leaf, self._seams.clock() - waiter.since_s))

    def _start_shadow(self, ask: Ask) -> Place:
        if self.num_waiting or not self._places.has_spare(ask):
            raise self._told(ask, shadow_dropped())
        return self._start(ask, None, 0.0)

    def _start(self, ask: Ask, leaf: Share[_Waiter] | None, waited_s: float) -> Place:
        place = Place(ask, leaf)
        self._places.take(place)
        self._charge(place, ask.num_prompt_tokens * PROMPT_TOKEN_COST)
        self._seams.observer.request_started(ask.urgency, waited_s)
        return place

    def _charge(self, place: Place, cost: float) -> None:
        if place.share is not None:
            place.share.charge(cost)
            self._pace.observe(has_queue=self.num_waiting > 0, cost=cost)

    def _release(self, place: Place) -> None:
        self._places.give_back(place)
        if place.share is not None:
            place.share.end()
            if place.num_output_tokens:
                self._pace.answered(place.num_output_tokens, place.ask.max_output_tokens)
        self._start_waiting()

    def _give_up(self, waiter: _Waiter) -> None:
        """Take back a waiter that was refused or cancelled, wherever it is."""
        granted = waiter.granted
        if waiter in waiter.leaf.queue:
            self._drop(waiter)
            self._start_waiting()  # whoever stood behind it may fit where it did not
        elif granted.done() and not granted.cancelled() and granted.exception() is None:
            # Cancelled in the turn in which its place came: nothing of it was read.
            self._charge(granted.result(), -waiter.ask.num_prompt_tokens * PROMPT_TOKEN_COST)
            self._release(granted.result())

    def _drop(self, waiter: _Waiter) -> None:
        self._leave_queue(waiter)
        waiter.leaf.end()

    def _leave_queue(self, waiter: _Waiter) -> None:
        waiter.leaf.take(waiter, waiter.cost)
        self._queue_changed(waiter.ask.urgency)

    def _queue_changed(self, urgency: Urgency) -> None:
        self._pace.observe(has_queue=self.num_waiting > 0)
        self._seams.observer.queue_changed(urgency, self._tenants(urgency).num_waiting)

    def _refuse_late(self, waiter: _Waiter) -> None:
        left_s = waiter.ask.left_s
        if left_s is None:
            return
        view = self._view(waiter)
        if view.cost_ahead > 0 and view.wait_s is not None and view.wait_s > left_s:
            raise self._told(waiter.ask, deadline_before_turn(view, view.wait_s, left_s))

    def _refuse_overflow(self, waiter: _Waiter) -> None:
        """Keep the queue within its limits: the newest request of those who have most waiting gives way."""
        mine = waiter.tenant
        if mine.num_waiting > self._limits.max_waiting_per_tenant:
            raise self._told(waiter.ask, queue_full(self._view(waiter)))
        if self.num_waiting > self._limits.max_waiting:
            longest = max((tenant for urgency in self._shares.waiting for tenant in urgency.waiting), key=_length)
            if _length(longest) <= _length(mine):
                raise self._told(waiter.ask, queue_full(self._view(waiter)))
            self._push_out(max(longest.waiting, key=_length).queue[-1])

    def _push_out(self, waiter: _Waiter) -> None:
        error = self._told(waiter.ask, queue_full(self._view(waiter)))
        self._drop(waiter)
        if not waiter.granted.cancelled():
            waiter.granted.set_exception(error)

    def _view(self, waiter: _Waiter) -> QueueView:
        """Return the queue as the newest waiter of a leaf sees it."""
        cost_ahead = waiter.leaf.cost_ahead(waiter.cost)
        return QueueView(
            num_waiting=self.num_waiting - 1,
            max_waiting=self._limits.max_waiting,
            num_of_tenant=waiter.tenant.num_waiting - 1,
            max_of_tenant=self._limits.max_waiting_per_tenant,
            cost_ahead=cost_ahead,
            wait_s=self._pace.seconds_for(cost_ahead),
        )

    def _told(self, ask: Ask, error: Busy) -> Busy:
        self._seams.observer.request_refused(ask.urgency, error.reason)
        return error


def _length(share: Share[_Waiter]) -> float:
    return share.num_waiting / share.weight
