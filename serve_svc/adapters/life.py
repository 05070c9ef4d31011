"""The states of one adapter on one server, and the only ways from one to the next.

Knows no bytes, no engine and no time: `cache.py` does the work and takes the step when it is done.
"""

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class AdapterState(enum.StrEnum):
    """How far an adapter has come; the values end the names of the proto's enum."""

    ABSENT = "ABSENT"
    """Nothing is known of its bytes here."""
    DOWNLOADED = "DOWNLOADED"
    """On this machine's disk, every byte of it as registered."""
    VERIFIED = "VERIFIED"
    """On disk, and the judge lets it be served."""
    LOADED = "LOADED"
    """In the engine: requests may name it."""
    DRAINING = "DRAINING"
    """Being taken down: it takes no new request, and goes when those under way have ended."""
    QUARANTINED = "QUARANTINED"
    """Refused, since it failed for good or too often."""


class Step(enum.Enum):
    """What can happen to an adapter."""

    FETCH = enum.auto()
    """Its bytes on disk were hashed and are as registered."""
    VERIFY = enum.auto()
    """The judge found nothing."""
    LOAD = enum.auto()
    """The engine took it."""
    UNLOAD = enum.auto()
    """It leaves the engine, idle, to make room."""
    LOSE = enum.auto()
    """The engine that held it is gone, whoever used it."""
    DISCARD = enum.auto()
    """Its files leave the disk to make room."""
    QUARANTINE = enum.auto()
    """It failed for good, or too often."""
    RELEASE = enum.auto()
    """It may be tried again."""
    RETIRE = enum.auto()
    """The registry wants it gone."""
    FORGET = enum.auto()
    """Nobody uses it, the engine does not know it, its files go: the end."""


_A, _D, _V, _L = AdapterState.ABSENT, AdapterState.DOWNLOADED, AdapterState.VERIFIED, AdapterState.LOADED
_X, _Q = AdapterState.DRAINING, AdapterState.QUARANTINED

# Where a step is not listed it cannot happen. What the engine does of itself (LOAD, at the end of a call under way, and LOSE) may
# come while an adapter drains or after another stream has put it in quarantine, and takes it out of neither.
_WAYS: Mapping[AdapterState, Mapping[Step, AdapterState]] = {
    _A: {Step.FETCH: _D, Step.QUARANTINE: _Q, Step.RETIRE: _X},
    _D: {Step.FETCH: _D, Step.VERIFY: _V, Step.DISCARD: _A, Step.QUARANTINE: _Q, Step.RETIRE: _X},
    _V: {Step.FETCH: _V, Step.LOAD: _L, Step.DISCARD: _A, Step.QUARANTINE: _Q, Step.RETIRE: _X},
    _L: {Step.UNLOAD: _V, Step.LOSE: _V, Step.QUARANTINE: _Q, Step.RETIRE: _X},
    _X: {Step.LOAD: _X, Step.UNLOAD: _X, Step.LOSE: _X, Step.DISCARD: _X, Step.FORGET: _A},
    _Q: {
        Step.LOAD: _Q,
        Step.UNLOAD: _Q,
        Step.LOSE: _Q,
        Step.DISCARD: _Q,
        Step.QUARANTINE: _Q,
        Step.RELEASE: _A,
        Step.RETIRE: _X,
    },
}
_NEEDS_NOBODY = frozenset({Step.UNLOAD, Step.DISCARD, Step.FORGET, Step.RELEASE})
_REFUSES_LEASES = frozenset({_X, _Q})


class IllegalStepError(RuntimeError):
    """A step that cannot happen in this state: a bug of the caller, never of a tenant."""


class AdapterLife:
    """One adapter's state and the leases on it."""

    def __init__(self) -> None:
        """Begin absent, with nobody using it."""
        self._state = AdapterState.ABSENT
        self._num_leases = 0

    @property
    def state(self) -> AdapterState:
        """How far it has come."""
        return self._state

    @property
    def num_leases(self) -> int:
        """Requests that use it, or wait until they can."""
        return self._num_leases

    def take(self, step: Step) -> None:
        """Take the step. Raises IllegalStepError where the state has no such way, or leases stand in it."""
        following = _WAYS[self._state].get(step)
        if following is None:
            raise IllegalStepError(f"{step.name} cannot happen to an adapter that is {self._state}")
        if self._num_leases and step in _NEEDS_NOBODY:
            raise IllegalStepError(f"{step.name} cannot happen to an adapter with {self._num_leases} leases")
        self._state = following

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Count one user while the block runs. Raises IllegalStepError for an adapter that takes none."""
        if self._state in _REFUSES_LEASES:
            raise IllegalStepError(f"an adapter that is {self._state} takes no lease")
        self._num_leases += 1
        try:
            yield
        finally:
            self._num_leases -= 1
