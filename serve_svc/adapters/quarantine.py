"""When a version that fails is refused without being tried, for how long, and what its callers are told.

Pure: told of failures and of the time. Whose failures they are is `cache.py`'s.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from adaptory.core.errors import AdapterRejected, Corrupted, FailedPrecondition, ServiceError, Unavailable
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import AdapterLoadFailed, EngineDead, EngineDiedLoading

# What a version can never recover from by itself: its bytes and its id stay what they are.
_LASTING_FAILURES = (AdapterRejected, AdapterLoadFailed, Corrupted, OutputCorrupted)


@dataclass(frozen=True, slots=True)
class QuarantinePolicy:
    """`max_failures` within `window_s` that may pass, or `max_deaths` loads in a row that end the engine, are too many.

    What may pass is tried again after `first_pause_s`, and after twice the pause each time that fails, at most `max_pause_s`.
    """

    max_failures: int = 3
    window_s: float = 60.0
    first_pause_s: float = 30.0
    max_pause_s: float = 300.0
    max_deaths: int = 2


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on two clocks: `monotonic_s` to compare, `utc` to tell people."""

    monotonic_s: float
    utc: datetime


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a version is refused, since when, and from which monotonic second on it may be tried again; None is never by itself."""

    cause: ServiceError
    since: datetime
    retry_at_s: float | None

    @property
    def is_releasable(self) -> bool:
        """Tell whether an operator may have it tried again: what the engine refused must never be offered under its id again."""
        return not isinstance(self.cause, AdapterLoadFailed)

    def is_over(self, now: Moment) -> bool:
        """Tell whether one more try is due."""
        return self.retry_at_s is not None and now.monotonic_s >= self.retry_at_s

    def refusal(self, version: str, now: Moment) -> ServiceError:
        """Return what a caller of the version is told: Unavailable with a time where it may heal, else FailedPrecondition."""
        metadata = {"version": version, "cause": self.cause.reason, "since": self.since.isoformat(timespec="seconds")}
        sentence = f"{version} is in quarantine since {metadata['since']} ({self.cause.reason}: {self.cause.message})"
        if self.retry_at_s is None:
            way_out = "Promote another version, or have the operator look at it and release it."
            return FailedPrecondition(f"{sentence} {way_out}", reason="VERSION_QUARANTINED", metadata=metadata)
        left_s = max(self.retry_at_s - now.monotonic_s, 1.0)
        return Unavailable(
            f"{sentence} It is tried again in {left_s:.0f} s.",
            reason="VERSION_QUARANTINED",
            metadata=metadata,
            retry_after_s=left_s,
        )


@dataclass(slots=True)
class TrackRecord:
    """What went wrong with one version since it was last well."""

    policy: QuarantinePolicy
    _failures_s: deque[float] = field(default_factory=deque)
    _num_deaths: int = 0
    _num_pauses: int = 0

    def is_clean(self, now: Moment) -> bool:
        """Tell whether nothing is left to remember."""
        self._forget_old(now)
        return not (self._failures_s or self._num_deaths or self._num_pauses)

    def clear(self) -> None:
        """Forget everything: a load went well, or an operator says so."""
        self._failures_s.clear()
        self._num_deaths = self._num_pauses = 0

    def judge(self, error: ServiceError, now: Moment) -> Quarantine | None:
        """Count a failure, and return the quarantine it leads to, if any."""
        if isinstance(error, _LASTING_FAILURES):
            return Quarantine(error, now.utc, retry_at_s=None)
        if isinstance(error, EngineDiedLoading):
            self._num_deaths += 1  # the first may be chance
            return Quarantine(error, now.utc, retry_at_s=None) if self._num_deaths >= self.policy.max_deaths else None
        if isinstance(error, EngineDead):
            return None  # there was no engine: nobody's fault
        self._forget_old(now)
        self._failures_s.append(now.monotonic_s)
        if not self._num_pauses and len(self._failures_s) < self.policy.max_failures:
            return None
        pause_s = min(self.policy.first_pause_s * 2.0 ** min(self._num_pauses, 32), self.policy.max_pause_s)
        self._num_pauses += 1
        return Quarantine(error, now.utc, retry_at_s=now.monotonic_s + pause_s)

    def _forget_old(self, now: Moment) -> None:
        while self._failures_s and self._failures_s[0] <= now.monotonic_s - self.policy.window_s:
            self._failures_s.popleft()
