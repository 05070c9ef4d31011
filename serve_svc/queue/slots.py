"""Which adapters hold the engine's slots, and which of them is let run dry for another that waits.

vLLM never takes a slot from an adapter in flight, and passes over requests whose adapter finds none for as long as those in flight
get new ones. So a slot is *closed* here: nobody joins it any more, and when its last request has ended it is free. The bare base
takes no slot; where the engine serves it through an adapter of zeros, it has one more for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serve_svc.queue.fair_share import Share


@dataclass(frozen=True, slots=True)
class Turn:
    """How long an adapter keeps its slot while another that was served less waits for one.

    That is until its share is `cost` ahead of the other's, in cost over weight, or since `seconds`, whichever comes first.
    """

    cost: float
    seconds: float


@dataclass(eq=False, slots=True)
class _Slot:
    since_s: float
    share: Share[Any] | None = None  # None while shadows alone hold it: they leave when anybody waits
    num_requests: int = 0
    is_closed: bool = False


class Slots:
    """At most `max_adapters` adapters in flight."""

    def __init__(self, max_adapters: int, turn: Turn, clock: Callable[[], float]) -> None:
        """Begin with all slots free."""
        self._max_adapters = max_adapters
        self._turn = turn
        self._clock = clock
        self._slots: dict[int, _Slot] = {}

    def is_open_to(self, engine_id: int | None) -> bool:
        """Tell whether a request of the adapter, or of the bare base (None), may start."""
        if engine_id is None:
            return True
        slot = self._slots.get(engine_id)
        return len(self._slots) < self._max_adapters if slot is None else not slot.is_closed

    def is_spare_for(self, engine_id: int | None) -> bool:
        """Tell whether a request of the adapter would leave a free slot, if one was free before."""
        return engine_id is None or engine_id in self._slots or len(self._slots) + 1 < self._max_adapters

    def hold(self, engine_id: int | None, share: Share[Any] | None) -> None:
        """Let one request use the adapter for `share`, or for nobody's (None)."""
        if engine_id is None:
            return
        slot = self._slots.setdefault(engine_id, _Slot(self._clock()))
        slot.share = share or slot.share
        slot.num_requests += 1

    def release(self, engine_id: int | None) -> None:
        """Let one request of the adapter end."""
        if engine_id is None:
            return
        slot = self._slots[engine_id]
        slot.num_requests -= 1
        if not slot.num_requests:
            del self._slots[engine_id]

    def open_unclaimed(self, waiting: Sequence[Share[Any]]) -> None:
        """Open again what was closed for adapters that are not among the leaves where requests wait any more."""
        num_unclaimed = self._count_dry() - len(self._claims_of(waiting))
        closed = sorted((slot for slot in self._slots.values() if slot.is_closed), key=_order)
        for slot in closed[: max(0, num_unclaimed)]:
            slot.is_closed = False

    def close_for(self, passed_over: Sequence[Share[Any]]) -> None:
        """Have one slot run dry for each adapter that was passed over for want of one, as far as turns are over."""
        for claim in self._claims_of(passed_over)[self._count_dry() :]:
            over = [slot for slot in self._slots.values() if self._is_turn_over(slot, claim)]
            if not over:
                return  # the claims that follow were served no less
            max(over, key=_order).is_closed = True

    def _claims_of(self, leaves: Sequence[Share[Any]]) -> list[Share[Any]]:
        return [leaf for leaf in leaves if leaf.key is not None and leaf.key not in self._slots]

    def _count_dry(self) -> int:
        return sum(slot.is_closed or slot.share is None for slot in self._slots.values())

    def _is_turn_over(self, slot: _Slot, claim: Share[Any]) -> bool:
        if slot.is_closed or slot.share is None:
            return False
        lead = slot.share.lead(claim)
        return lead >= self._turn.cost or (lead > 0 and self._clock() - slot.since_s >= self._turn.seconds)


def _order(slot: _Slot) -> list[float]:
    return slot.share.ranks() if slot.share is not None else []
