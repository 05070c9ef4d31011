"""What those are told who get no place, or lose theirs: why, the numbers, when to come again."""

from dataclasses import dataclass

from adaptory.core.errors import Busy

# Bounds of the advised retry: below, callers would poll; above, they would give up on a queue that moves.
_MIN_RETRY_S = 0.5
_MAX_RETRY_S = 30.0
# What is advised before anything was measured.
_UNKNOWN_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue as one who waits in it sees it, himself left out; `wait_s` is None where too little was measured."""

    num_waiting: int
    max_waiting: int
    num_of_tenant: int
    max_of_tenant: int
    cost_ahead: float
    wait_s: float | None

    @property
    def retry_after_s(self) -> float:
        """When a place in the queue is likely."""
        return _UNKNOWN_RETRY_S if self.wait_s is None else min(max(self.wait_s, _MIN_RETRY_S), _MAX_RETRY_S)


def queue_full(view: QueueView) -> Busy:
    """Say that too many wait: of this tenant, or of all while no other has more than this one."""
    return Busy(
        f"The queue is full: {view.num_of_tenant} of your requests wait (limit {view.max_of_tenant}), {view.num_waiting} of all "
        f"callers (limit {view.max_waiting}); those with most waiting give way. Retry in {view.retry_after_s:.1f} s.",
        reason="QUEUE_FULL",
        metadata={
            "num_waiting_of_tenant": view.num_of_tenant,
            "max_waiting_per_tenant": view.max_of_tenant,
            "num_waiting": view.num_waiting,
            "max_waiting": view.max_waiting,
        },
        retry_after_s=view.retry_after_s,
    )


def deadline_before_turn(view: QueueView, wait_s: float, left_s: float) -> Busy:
    """Say that the deadline will have passed before the request could start."""
    return Busy(
        f"What waits ahead of this request takes about {wait_s:.1f} s; its deadline is in {left_s:.1f} s. Give it more time, or ask "
        f"again in {view.retry_after_s:.1f} s.",
        reason="DEADLINE_BEFORE_TURN",
        metadata={"wait_s": f"{wait_s:.1f}", "left_s": f"{left_s:.1f}"},
        retry_after_s=view.retry_after_s,
    )


def shadow_dropped() -> Busy:
    """Say that nothing is free for a request nobody waits for."""
    return Busy(
        "The engine has nothing to spare for a shadow; it is not repeated.",
        reason="SHADOW_DROPPED",
        retry_after_s=_UNKNOWN_RETRY_S,
    )


def shadow_yields() -> Busy:
    """Say that a shadow ends since a request waits."""
    return Busy(
        "A request waits for the place of this shadow; it is not repeated.",
        reason="SHADOW_YIELDS",
        retry_after_s=_UNKNOWN_RETRY_S,
    )
