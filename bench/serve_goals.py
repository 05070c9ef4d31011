"""What serving must reach beside the bare engine, and whether it did."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.serve_run import Measured

_MIN_THROUGHPUT = 0.97
_MAX_ADDED_MS = 3.0
_MAX_NEVER_SEEN_MS = 1000.0
_MAX_QUIET_RATIO = 1.3
_MAX_GAP_RATIO = 1.2
_MAX_MEMORY_GROWTH = 1.05


@dataclass(frozen=True, slots=True)
class Goal:
    """What is measured, in which scenario, the bound that `value` must keep, and the bare engine's own value where it has one."""

    scenario: str
    what: str
    bound: Literal["at least", "at most"]
    limit: float
    value: float
    unit: str = ""
    bare: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the bound is kept; NaN keeps none."""
        return self.value >= self.limit if self.bound == "at least" else self.value <= self.limit


def judge(measured: Sequence[Measured]) -> list[Goal]:
    """Return the goals of the scenarios that were run."""
    return [goal for one in measured for goal in _judge_one(one)]


def _judge_one(one: Measured) -> Iterator[Goal]:
    name, ours, bare = one.scenario.name, one.ours.numbers, one.bare.numbers
    if one.scenario.kind == "steady":
        yield Goal(name, "throughput, of the bare engine's", "at least", _MIN_THROUGHPUT, one.ratio_throughput)
        # Where adapters wait for slots, first tokens tell whose turn it was, and nothing of the path.
        if one.scenario.num_speakers <= one.scenario.num_slots:
            yield _judge_added(name, "first token, one at a time: added", "alone_ttft_p50_ms", ours, bare)
            yield _judge_added(name, "median first token under load: added", "ttft_p50_ms", ours, bare)
        yield from _judge_special(name, ours, bare)
    elif one.scenario.kind == "flood":
        # Who got no answer at all has no first token to be late.
        value, its = (math.nan if side["quiet_unanswered"] else side["quiet_p99_ratio"] for side in (ours, bare))
        what = "quiet tenants' p99 first token, of theirs without the flood"
        yield Goal(name, what, "at most", _MAX_QUIET_RATIO, value, bare=its)
    else:
        for what, gap in (
            ("largest token gap", "largest_gap_ms"),
            ("median of each second's largest gap", "median_gap_of_a_second_ms"),
        ):
            value, its = (side[f"swap_{gap}"] / side[f"steady_{gap}"] for side in (ours, bare))
            yield Goal(name, f"{what} during swaps, of the steady one", "at most", _MAX_GAP_RATIO, value, bare=its)


def _judge_special(name: str, ours: Mapping[str, float], bare: Mapping[str, float]) -> Iterator[Goal]:
    """Yield what only some of the steady scenarios have."""
    if "alone_base_ttft_p50_ms" in ours:
        extra_ms, its_ms = (side["alone_ttft_p50_ms"] - side["alone_base_ttft_p50_ms"] for side in (ours, bare))
        what = "first token of a resident adapter: above the base's, on the same side"
        yield Goal(name, what, "at most", _MAX_ADDED_MS, extra_ms, "ms", its_ms)
    if "never_seen_ttft_p50_ms" in ours:
        later_ms, its_ms = (side["never_seen_ttft_p50_ms"] - side["warm_ttft_p50_ms"] for side in (ours, bare))
        what = "first token of a never-seen adapter: above a warm one's"
        yield Goal(name, what, "at most", _MAX_NEVER_SEEN_MS, later_ms, "ms", its_ms)
        growth, its = (side["memory_end_mib"] / side["memory_begin_mib"] for side in (ours, bare))
        yield Goal(name, "memory at the end, of that at the begin", "at most", _MAX_MEMORY_GROWTH, growth, bare=its)


def _judge_added(name: str, what: str, key: str, ours: Mapping[str, float], bare: Mapping[str, float]) -> Goal:
    return Goal(name, what, "at most", _MAX_ADDED_MS, ours[key] - bare[key], "ms")
