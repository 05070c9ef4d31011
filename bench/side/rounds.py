"""What one engine reached in the rounds of a measurement, and how that compares with another's."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.side.engine import RunResult


@dataclass(frozen=True, slots=True)
class Round:
    """How fast one side answered one scenario: all its streams together, and the median first token."""

    output_tokens_per_second: float
    ttft_p50_ms: float

    @classmethod
    def from_result(cls, result: RunResult) -> "Round":
        """Take the measures of one run."""
        num_tokens = sum(len(answer.tokens) for answer in result.answers)
        return cls(num_tokens / result.seconds, 1000 * statistics.median(answer.ttft_s for answer in result.answers))


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rounds of one side, in the order in which all sides took turns.

    Sides are compared within a round, which met the machine in the same minute, and the median of those ratios counts: the machine's
    speed changes by a third from one minute to another.
    """

    taken: tuple[Round, ...]

    @property
    def median(self) -> Round:
        """The median of each measure."""
        return Round(
            statistics.median(taken.output_tokens_per_second for taken in self.taken),
            statistics.median(taken.ttft_p50_ms for taken in self.taken),
        )

    def throughput_ratio(self, other: "Rounds") -> float:
        """Return our throughput by the other's."""
        return self._compare(other, lambda taken: taken.output_tokens_per_second)

    def ttft_ratio(self, other: "Rounds") -> float:
        """Return our median first token by the other's."""
        return self._compare(other, lambda taken: taken.ttft_p50_ms)

    def _compare(self, other: "Rounds", measure: Callable[[Round], float]) -> float:
        pairs = zip(self.taken, other.taken, strict=True)
        return statistics.median(measure(ours) / measure(theirs) for ours, theirs in pairs)
