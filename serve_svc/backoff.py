"""How long to wait before something that failed is tried again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The n-th failure in a row waits a random part of `first_s * 2**n`, at most `max_s`: those who wait do not come back as one."""

    first_s: float = 0.2
    max_s: float = 5.0

    def delay_s(self, num_failures: int, randomness: random.Random) -> float:
        """Return seconds to wait after the given number of failures in a row, at least 1."""
        longest_s = min(self.first_s * 2.0 ** min(num_failures, 16), self.max_s)
        return randomness.uniform(longest_s / 2, longest_s)
