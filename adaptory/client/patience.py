"""How long an interrupted upload or watch is taken up again."""

import asyncio
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits between attempts double from `first_s` to `longest_s`; after `max_failures` without any progress the caller gives up.

    The defaults bear a service that is away for about a minute, long enough for a restart.
    """

    first_s: float = 0.25
    longest_s: float = 10.0
    max_failures: int = 10

    async def wait_after(self, num_failures: int) -> None:
        """Wait before the next attempt; half of the time is random, so that many clients do not come back at once."""
        longest_s = min(self.longest_s, self.first_s * 2 ** (num_failures - 1))
        await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
