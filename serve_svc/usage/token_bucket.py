"""A budget that refills all the time: pure arithmetic on seconds that the caller brings."""

_MINUTE_S = 60.0
# What sums of fractions may be off by: whoever waited as long as it was told is not sent back for it.
_ROUNDING = 1e-6


class TokenBucket:
    """Holds at most what refills in a minute. What is taken beyond that is a debt, which refilling pays off first."""

    def __init__(self, per_minute: int, now_s: float) -> None:
        """Begin full; `per_minute` is 1 or more."""
        self._per_minute = per_minute
        self._level = float(per_minute)
        self._filled_s = now_s

    def level(self, now_s: float) -> float:
        """Return how much there is at `now_s`; below 0 it is a debt."""
        self._refill(now_s)
        return self._level

    def take(self, amount: float, now_s: float) -> None:
        """Take so much, whether it is there or not; less than 0 puts it back."""
        self._refill(now_s)
        self._level = min(self._level - amount, float(self._per_minute))

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return the seconds until so much is there, 0 when it is; `amount` is at most what the bucket holds."""
        missing = amount - self.level(now_s)
        return missing * _MINUTE_S / self._per_minute if missing > _ROUNDING else 0.0

    def resize(self, per_minute: int, now_s: float) -> None:
        """Refill by another rate from now on.

        What a larger bucket holds more is there at once. In a smaller one a debt shrinks along, so that nobody waits longer for what
        was allowed before.
        """
        self._refill(now_s)
        if per_minute >= self._per_minute:
            self._level += per_minute - self._per_minute
        elif self._level > 0:
            self._level = min(self._level, float(per_minute))
        else:
            self._level *= per_minute / self._per_minute
        self._per_minute = per_minute

    def _refill(self, now_s: float) -> None:
        grown = max(0.0, now_s - self._filled_s) * self._per_minute / _MINUTE_S
        self._level = min(self._level + grown, float(self._per_minute))
        self._filled_s = max(now_s, self._filled_s)
