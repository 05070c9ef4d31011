"""The places in the engine: how many requests, adapters and tokens run at once. Who gets one is `admission.py`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, TypeVar

from serve_svc.queue.ask import Ask
from serve_svc.queue.fair_share import Share
from serve_svc.queue.slots import Slots, Turn


class Asking(Protocol):
    """What waits: something that knows what it asks."""

    @property
    def ask(self) -> Ask:
        """What it asks of the engine."""


_Item = TypeVar("_Item", bound=Asking)


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """How much may run at once, and how long an adapter keeps its slot.

    `max_tokens` bounds prompts and longest answers of all that runs together: above what the engine's memory for keys and values
    holds, vLLM would throw away what it has computed for one request and begin it again. A request above it runs alone.

    `num_kept` places more are for tenants of whom less runs than their part of `max_in_flight`: else whoever asks seldom waits until
    an answer ends of one who fills all places, and answers begun together end together. Parts are by weight, and max-min fair: what
    those who ask for less than theirs leave is shared out among the others.

    `max_unread_tokens` bounds the prompts of one tenant that have begun and are not read, so that their answers have no token. The
    engine reads prompts in the order in which they began: all who come after many long ones would wait for them. A prompt above it is
    the only one. Here as above a tenant's completions and its conversations count apart.
    """

    max_in_flight: int
    num_kept: int
    max_adapters: int
    max_tokens: int
    max_unread_tokens: int
    turn: Turn


@dataclass(eq=False, slots=True)
class Place:
    """One request's place; `share` is whom it is charged to, None for a shadow."""

    ask: Ask
    share: Share[Any] | None
    num_output_tokens: int = 0

    @property
    def is_read(self) -> bool:
        """Whether the engine has read its prompt: then there is a first token."""
        return self.num_output_tokens > 0


class Places:
    """Counts what runs."""

    def __init__(self, limits: PlaceLimits, clock: Callable[[], float]) -> None:
        """Begin with all places free."""
        self._limits = limits
        self._slots = Slots(limits.max_adapters, limits.turn, clock)
        self._num_tokens = 0
        self._num_running = Counter[Share[Any]]()  # by tenant
        self._num_unread = Counter[Share[Any]]()  # tokens of prompts, by tenant
        self.num_taken = 0

    @property
    def has_room(self) -> bool:
        """Whether one more request may run, if it is short enough and of a tenant that may take what is left."""
        return self.num_taken < self._limits.max_in_flight + self._limits.num_kept

    def fits(self, ask: Ask) -> bool:
        """Tell whether the tokens of a request find room."""
        return not self.num_taken or self._num_tokens + ask.max_tokens <= self._limits.max_tokens

    def has_spare(self, ask: Ask) -> bool:
        """Tell whether a place, and a slot, would be left after the request has started."""
        has_place = self.num_taken + 1 < self._limits.max_in_flight
        return has_place and self.fits(ask) and self._slots.is_spare_for(ask.engine_id)

    def find_next(self, leaves: Sequence[Share[_Item]]) -> Share[_Item] | None:
        """Return the first leaf, of those in order, that may start, if any; slots are closed for those that it goes before."""
        self._slots.open_unclaimed(leaves)
        tenants = {_tenant_of(leaf) for leaf in leaves} | self._num_running.keys()
        level = self._share_out(tenants)
        passed_over: list[Share[_Item]] = []
        # The lowest of those passed over, by their parent: leaves come lowest first.
        lowest: dict[Share[_Item], Share[_Item]] = {}
        for leaf in leaves:
            has_place = self._has_place_for(_tenant_of(leaf), level) and self._may_begin_to_read(leaf)
            if has_place and self._slots.is_open_to(leaf.key) and not self._is_too_far_ahead(leaf, lowest):
                self._slots.close_for(passed_over)
                return leaf
            if has_place:  # a slot would not help who lacks a place
                passed_over.append(leaf)
            for parent, share in leaf.path():
                lowest.setdefault(parent, share)
        self._slots.close_for(passed_over)
        return None

    def take(self, place: Place) -> None:
        """Let a request run."""
        self.num_taken += 1
        self._num_tokens += place.ask.max_tokens
        if place.share is not None:
            self._num_running[_tenant_of(place.share)] += 1
            self._num_unread[_tenant_of(place.share)] += place.ask.num_prompt_tokens
        self._slots.hold(place.ask.engine_id, place.share)

    def hear(self, place: Place, num_output_tokens: int) -> bool:
        """Take note how long an answer is; tell whether that is news of its prompt having been read."""
        is_first = not place.is_read and num_output_tokens > 0
        if is_first:
            self._forget_prompt(place)
        place.num_output_tokens = num_output_tokens
        return is_first

    def give_back(self, place: Place) -> None:
        """Let a request end."""
        self.num_taken -= 1
        self._num_tokens -= place.ask.max_tokens
        if not place.is_read:
            self._forget_prompt(place)
        if place.share is not None:
            self._num_running -= Counter([_tenant_of(place.share)])  # drops who is at nothing, to let them be forgotten
        self._slots.release(place.ask.engine_id)

    def _share_out(self, tenants: Iterable[Share[Any]]) -> float:
        """Return how many requests over weight are each one's part: those who ask for less get that, and the others this."""
        asked = {tenant: self._num_running[tenant] + tenant.num_waiting for tenant in tenants}
        num_left: float = self._limits.max_in_flight
        weight_left = sum(tenant.weight for tenant in asked)
        for tenant in sorted(asked, key=lambda tenant: asked[tenant] / tenant.weight):
            if asked[tenant] * weight_left >= num_left * tenant.weight:
                return num_left / weight_left
            num_left -= asked[tenant]
            weight_left -= tenant.weight
        return inf

    def _has_place_for(self, tenant: Share[Any], level: float) -> bool:
        return self.num_taken < self._limits.max_in_flight or self._num_running[tenant] < level * tenant.weight

    def _may_begin_to_read(self, leaf: Share[_Item]) -> bool:
        num_unread = self._num_unread[_tenant_of(leaf)]
        return not num_unread or num_unread + leaf.queue[0].ask.num_prompt_tokens <= self._limits.max_unread_tokens

    def _forget_prompt(self, place: Place) -> None:
        if place.share is not None:
            self._num_unread -= Counter({_tenant_of(place.share): place.ask.num_prompt_tokens})

    def _is_too_far_ahead(self, leaf: Share[_Item], lowest: Mapping[Share[_Item], Share[_Item]]) -> bool:
        leads = (share.rank - lowest.get(parent, share).rank for parent, share in leaf.path())
        return max(leads) >= 2 * self._limits.turn.cost


def _tenant_of(leaf: Share[Any]) -> Share[Any]:
    return leaf.path()[-1][0]
