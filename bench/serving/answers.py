"""What was heard, and the figures made of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

MS = 1000.0


@dataclass(slots=True)
class Answer:
    """One request and when each piece of its answer came, in seconds on its phase's clock.

    A piece is what has text, or the end; nearly every token is one. `num_tokens` is what the side itself counted; 0 where the answer
    did not come to its end. `is_refused` where the side did not take it.
    """

    speaker: int
    due_s: float
    heard_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    is_refused: bool = False

    @property
    def first_token_s(self) -> float:
        """Seconds from when it was due to its first piece; what its asker waited, whoever was late."""
        return self.heard_s[0] - self.due_s

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """When each piece but the first came, and how long after the one before."""
        return [(later, later - earlier) for earlier, later in pairwise(self.heard_s)]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles in milliseconds: of the time to the first token, and of the time from one piece to the next."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> "Latencies":
        """Measure those that were heard; NaN where there are none."""
        first = list_first_tokens_ms(answers)
        gaps = [gap * MS for answer in answers for _, gap in answer.gaps]
        return cls(percentile(first, 50), percentile(first, 99), percentile(gaps, 50), percentile(gaps, 99))


def list_first_tokens_ms(answers: Sequence[Answer]) -> list[float]:
    """Return the milliseconds to the first token of those that were heard."""
    return [answer.first_token_s * MS for answer in answers if answer.heard_s]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, between two values where it falls there; NaN of nothing."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent)) if values else math.nan


def divide(part: float, whole: float) -> float:
    """Return one as a share of the other; NaN of nothing."""
    return part / whole if whole else math.nan


def measure_throughput(answers: Sequence[Answer], seconds: float) -> float:
    """Return the tokens a second of a phase of this length, answers that outlast it counted by the pieces that came in time."""
    return sum(_count_tokens_by(answer, seconds) for answer in answers) / seconds


def measure_request_rate(answers: Sequence[Answer], seconds: float) -> float:
    """Return the requests a second that were answered in a phase of this length, those under way at its end by their parts."""
    return sum(_share_by(answer, seconds) for answer in answers) / seconds


def find_largest_gaps_ms(answers: Sequence[Answer], seconds: float) -> list[float]:
    """Return the largest gap that ended within each whole second of a phase, in milliseconds; seconds without one are left out."""
    largest: dict[int, float] = {}
    for answer in answers:
        for at_s, gap in answer.gaps:
            if at_s < seconds:
                largest[int(at_s)] = max(largest.get(int(at_s), 0.0), gap * MS)
    return [largest[second] for second in sorted(largest)]


def to_numbers(throughput: float, latencies: Latencies, details: dict[str, float]) -> dict[str, Any]:
    """Return what every scenario reports of a side, and behind it what this one has besides."""
    return {
        "output_tokens_per_second": throughput,
        "ttft_p50_ms": latencies.ttft_p50_ms,
        "ttft_p99_ms": latencies.ttft_p99_ms,
        "itl_p50_ms": latencies.itl_p50_ms,
        "itl_p99_ms": latencies.itl_p99_ms,
        **details,
    }


def _share_by(answer: Answer, seconds: float) -> float:
    return sum(at_s < seconds for at_s in answer.heard_s) / len(answer.heard_s) if answer.heard_s else 0.0


def _count_tokens_by(answer: Answer, seconds: float) -> float:
    # Where the end did not come, a piece is a token.
    return (answer.num_tokens or len(answer.heard_s)) * _share_by(answer, seconds)
