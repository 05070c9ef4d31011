"""How many tokens each tenant used of a UTC day: on all servers, as far as the registry told, and here since then."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from adaptory.core.usage import UsageCounts, UsageKey


@dataclass(frozen=True, slots=True)
class DayTotals:
    """Tokens that all servers reported for one UTC day, by tenant; who is not in it used none, or has no budget."""

    day: str
    num_tokens: Mapping[str, int]


class DayTokens:
    """Adds what was charged here, and takes off what a report has told, which comes back in the totals of all servers."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        self._totals = DayTotals("", {})
        self._unreported: Counter[tuple[str, str]] = Counter()  # by tenant and day

    def spent(self, tenant: str, day: str) -> int:
        """Return the tenant's tokens of the day."""
        reported = self._totals.num_tokens.get(tenant, 0) if self._totals.day == day else 0
        return reported + self._unreported[tenant, day]

    def add(self, tenant: str, day: str, num_tokens: int) -> None:
        """Count tokens that no report has told yet."""
        self._unreported[tenant, day] += num_tokens
        if not self._unreported[tenant, day]:
            del self._unreported[tenant, day]

    def add_all(self, usage: Mapping[UsageKey, UsageCounts]) -> None:
        """Count the tokens of records that an earlier run of the server left unreported."""
        for key, counts in usage.items():
            self.add(key.version.tenant, key.day, counts.num_tokens)

    def reported(self, usage: Mapping[UsageKey, UsageCounts], totals: DayTotals) -> None:
        """Take over the totals that answered a report of `usage`, which is part of them."""
        for key, counts in usage.items():
            self.add(key.version.tenant, key.day, -counts.num_tokens)
        self._totals = totals
