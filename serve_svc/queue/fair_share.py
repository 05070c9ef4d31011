"""Who was served how much, and who is next: weighted fair shares in a tree of urgencies, their tenants, and those tenants' adapters.

At every level of the tree the shares are virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI
2024, arXiv 2401.00588): what a share was served, divided by its weight. The lowest goes first. A share that begins to wait is lifted
to the lowest that waits beside it, or else to the one that waited last, so that nobody saves up what he did not use.

Service is counted in *cost*: a token of a prompt costs 1, a token of an answer 2, since a step makes one token of an answer and reads
many of a prompt. The prompt is charged when its request starts, the answer as it is generated. Prompt tokens found in the engine's
cache are charged like all others: else what the cache still holds, which other tenants decide, would decide about a share.

When a request may start is `admission.py`; which adapters hold the engine's slots is `slots.py`.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from operator import attrgetter
from typing import Any, Generic, TypeVar

PROMPT_TOKEN_COST = 1
OUTPUT_TOKEN_COST = 2

_Item = TypeVar("_Item")


class Share(Generic[_Item]):
    """One party of one level, or the root that holds the first level. Items wait at the leaves, first come first served."""

    def __init__(self, parent: "Share[_Item] | None" = None, key: Hashable = None) -> None:
        """Begin with nothing served and nothing waiting."""
        self.parent = parent
        self.key: Any = key  # a leaf is an adapter, its key the engine id, None for the bare base
        self.weight = 1.0
        self.head_start = 0.0
        self.served = 0.0
        self.backlog = 0.0  # cost that its waiting items are expected to have
        self.num_waiting = 0
        self.queue: deque[_Item] = deque()
        self.num_held = 0  # items put and not ended
        self.children: dict[Hashable, Share[_Item]] = {}
        self.waiting: dict[Share[_Item], None] = {}  # those of them with items that wait; who began first comes first
        self.last_to_wait: Share[_Item] | None = None

    @property
    def rank(self) -> float:
        """Where it stands among its siblings: the lowest goes first."""
        return self.served - self.head_start

    def child(self, key: Hashable, *, weight: float = 1.0, head_start: float = 0.0) -> "Share[_Item]":
        """Return the share `key` of the level below, with this weight from now on.

        It goes before its siblings until it was served `head_start` more than they, in cost over weight.
        """
        if key not in self.children:
            self.children[key] = Share(self, key)
        child = self.children[key]
        child.weight, child.head_start = weight, head_start
        return child

    def put(self, item: _Item, cost: float) -> None:
        """Let an item wait at this leaf."""
        for share in self._up():
            if not share.num_waiting and share.parent is not None:
                share.parent.lift(share)
            share.num_waiting += 1
            share.backlog += cost
            share.num_held += 1
        self.queue.append(item)

    def take(self, item: _Item, cost: float) -> None:
        """Let an item wait no longer; it was put with this cost."""
        self.queue.remove(item)
        for share in self._up():
            share.num_waiting -= 1
            share.backlog -= cost
            if not share.num_waiting and share.parent is not None:
                del share.parent.waiting[share]
                share.parent.last_to_wait = share

    def end(self) -> None:
        """Forget one item that was taken. What a level counted goes with the last item below it."""
        for share in self._up():
            share.num_held -= 1
            if not share.num_held:
                share.children.clear()
                share.last_to_wait = None

    def charge(self, cost: float) -> None:
        """Count service of this leaf."""
        for share in self._up():
            share.served += cost / share.weight

    def leaves(self) -> Iterator["Share[_Item]"]:
        """Yield the leaves where items wait, in the order in which they should be served."""
        if self.queue:
            yield self
        for child in sorted(self.waiting, key=attrgetter("rank")):
            yield from child.leaves()

    def ranks(self) -> list[float]:
        """Return the ranks from the first level down: the order of `leaves` is that of these lists."""
        return [share.rank for _, share in self.path()]

    def lead(self, other: "Share[_Item]") -> float:
        """Return how much more than the other it was served, in cost over weight, where their ways through the tree part."""
        for (_, mine), (_, theirs) in zip(self.path(), other.path(), strict=True):
            if mine is not theirs:
                return mine.rank - theirs.rank
        return 0.0

    def cost_ahead(self, own: float) -> float:
        """Return the cost that the counters put before this leaf's newest item, whose own cost is `own`; slots are not looked at."""
        ahead = self.backlog - own
        for share in self._up():
            if share.parent is not None:
                turn = share.rank + ahead / share.weight
                others = (other for other in share.parent.waiting if other is not share)
                ahead += sum(min(other.backlog, max(0.0, turn - other.rank) * other.weight) for other in others)
        return ahead

    def path(self) -> list[tuple["Share[_Item]", "Share[_Item]"]]:
        """Return the shares from the first level down to this one, each after its parent."""
        return [(share.parent, share) for share in self._up() if share.parent is not None][::-1]

    def lift(self, child: "Share[_Item]") -> None:
        """Let a child wait, which did not, with nothing saved up."""
        floors = [other.served for other in self.waiting]
        if not floors and self.last_to_wait is not None:
            floors = [self.last_to_wait.served]
        child.served = max(child.served, min(floors, default=0.0))
        self.waiting[child] = None

    def _up(self) -> Iterator["Share[_Item]"]:
        share: Share[_Item] | None = self
        while share is not None:
            yield share
            share = share.parent
