"""Decides when a request may start: a fair, bounded queue in front of the engine.

Holds counts only; loading is `adapters.py`. It exists because vLLM's scheduler skips a request whose adapter finds no slot
for as long as the running adapters keep receiving traffic, and because its queue knows no tenants.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adaptory.core.errors import Busy

# Bounds of the advised retry: below, callers would poll; above, they would give up on a queue that moves.
_MIN_RETRY_S = 0.5
_MAX_RETRY_S = 30.0
# Weight of the newest request in the moving mean of how long a place is held.
_HOLD_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may run and wait; an adapter that has waited `max_wait_s` goes before new requests of running adapters."""

    max_in_flight: int
    max_adapters: int
    max_waiting: int
    max_waiting_per_tenant: int
    max_wait_s: float


@dataclass(eq=False, slots=True)
class _Waiter:
    tenant: str
    engine_id: int | None
    since_s: float
    granted: asyncio.Future[None]


class Admission:
    """Round-robin over tenants, first come first served inside a tenant, at most `max_adapters` distinct adapters in flight."""

    def __init__(self, limits: AdmissionLimits, clock: Callable[[], float]) -> None:
        """Start empty; `clock` is monotonic and in seconds."""
        self._limits = limits
        self._clock = clock
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()  # whose turn is next comes first
        self._in_flight: Counter[int | None] = Counter()  # by adapter; None is the bare base, which takes no slot
        self._mean_hold_s = 1.0

    @property
    def num_in_flight(self) -> int:
        """Requests that hold a place."""
        return self._in_flight.total()

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def admit(self, tenant: str, engine_id: int | None) -> AsyncIterator[None]:
        """Hold a place while the block runs; waits for its turn.

        Raises Busy with a retry time when the queue is full. A caller that is cancelled while waiting leaves no trace.
        """
        await self._wait_for_place(tenant, engine_id)
        started_s = self._clock()
        try:
            yield
        finally:
            self._mean_hold_s += _HOLD_SMOOTHING * (self._clock() - started_s - self._mean_hold_s)
            self._release(engine_id)

    async def _wait_for_place(self, tenant: str, engine_id: int | None) -> None:
        waiter = _Waiter(tenant, engine_id, self._clock(), asyncio.get_running_loop().create_future())
        self._queues.setdefault(tenant, deque()).append(waiter)
        self._grant_places()
        try:
            if not waiter.granted.done():
                self._refuse_overflow(tenant)
            await waiter.granted
        except (Busy, asyncio.CancelledError):
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._release(engine_id)  # the place arrived in the same turn as the cancellation
            else:
                self._leave_queue(waiter)
                self._grant_places()  # whoever stood behind it may fit where it did not
            raise

    def _refuse_overflow(self, tenant: str) -> None:
        num_waiting, num_of_tenant = self.num_waiting, len(self._queues[tenant])
        if num_waiting <= self._limits.max_waiting and num_of_tenant <= self._limits.max_waiting_per_tenant:
            return
        retry_after_s = min(
            max(num_waiting * self._mean_hold_s / self._limits.max_in_flight, _MIN_RETRY_S), _MAX_RETRY_S
        )
        raise Busy(
            f"The queue is full: {num_of_tenant - 1} of your requests wait (limit {self._limits.max_waiting_per_tenant}), "
            f"{num_waiting - 1} of all callers (limit {self._limits.max_waiting}); retry in {retry_after_s:.1f} s.",
            reason="QUEUE_FULL",
            metadata={
                "num_waiting_of_tenant": num_of_tenant - 1,
                "max_waiting_per_tenant": self._limits.max_waiting_per_tenant,
                "num_waiting": num_waiting - 1,
                "max_waiting": self._limits.max_waiting,
            },
            retry_after_s=retry_after_s,
        )

    def _grant_places(self) -> None:
        while self.num_in_flight < self._limits.max_in_flight and (waiter := self._pick_next()):
            self._queues.move_to_end(waiter.tenant)
            self._leave_queue(waiter)
            if not waiter.granted.cancelled():  # else its caller gave up in this very turn and is about to run
                self._in_flight[waiter.engine_id] += 1
                waiter.granted.set_result(None)

    def _pick_next(self) -> _Waiter | None:
        heads = [queue[0] for queue in self._queues.values()]
        starving = [head for head in heads if self._is_starving(head)]
        if starving:
            # The oldest is owed the next slot, so no adapter, running or new, may take or hold one open before it.
            oldest = min(starving, key=lambda head: head.since_s)
            heads = [head for head in heads if head is oldest or head.engine_id is None]
        return next((head for head in heads if self._has_slot(head.engine_id)), None)

    def _is_starving(self, head: _Waiter) -> bool:
        is_late = self._clock() - head.since_s >= self._limits.max_wait_s
        return is_late and not self._has_slot(head.engine_id)

    def _has_slot(self, engine_id: int | None) -> bool:
        if engine_id is None or engine_id in self._in_flight:
            return True
        return len(self._in_flight.keys() - {None}) < self._limits.max_adapters

    def _release(self, engine_id: int | None) -> None:
        self._in_flight[engine_id] -= 1
        if not self._in_flight[engine_id]:
            del self._in_flight[engine_id]  # a key means: this adapter holds a slot
        self._grant_places()

    def _leave_queue(self, waiter: _Waiter) -> None:
        queue = self._queues.get(waiter.tenant, deque())
        if waiter in queue:
            queue.remove(waiter)
        if not queue:
            self._queues.pop(waiter.tenant, None)
