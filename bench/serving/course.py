"""What one side goes through in a scenario: warmed up, then asked phase by phase. The same code asks both sides.

A *saturated* phase keeps as many streams under way as the engine takes, and tells the throughput. An *open* phase has requests arrive
by a Poisson process at half the rate that our side answered when saturated, and tells the latencies. Before both, requests of one
token are asked *one at a time*: their median tells a path of milliseconds from an engine of hundreds.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from bench.serving import demand
from bench.serving.answers import (
    Answer,
    Latencies,
    find_largest_gaps_ms,
    list_first_tokens_ms,
    measure_request_rate,
    measure_throughput,
    percentile,
    to_numbers,
)
from bench.serving.demand import BASE, Zipf
from bench.serving.door import Door
from bench.serving.engine_size import MAX_CPU_LORAS, MAX_SEQUENCES
from bench.serving.scenario import Scenario, SideResult
from bench.serving.traffic import ask_in_turn, keep_busy, let_arrive

_MIB = 2**20
_ZIPF_EXPONENT = 1.0
_OPEN_SHARE = 0.5
_WARM_UP_S = 4.0
_NUM_ONE_BY_ONE = 16
_NUM_NEVER_SEEN = 8
_FLOOD_TIMES = 20
# What quiet tenants ask for, of their share.
_QUIET_SHARE = 0.5
_SWAP_STREAMS = 4
_SWAP_EVERY_S = 1.0

OnPhase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stand:
    """A side that is up, and how it is asked: seconds of a phase, the seed, and the rate of ours where it is known."""

    door: Door
    scenario: Scenario
    seconds: float
    seed: int
    rate: float | None
    on_phase: OnPhase

    def draw(self, phase: str) -> random.Random:
        """Return the chance of a phase: the same on both sides, another in each phase, or caches would answer."""
        return random.Random(f"{self.seed} {phase}")  # noqa: S311 - to be repeatable, not secret


async def run_course(stand: Stand) -> SideResult:
    """Ask the side all its scenario has."""
    courses: dict[str, Callable[[Stand], Awaitable[SideResult]]] = {
        "steady": _run_steady,
        "flood": _run_flood,
        "swaps": _run_swaps,
    }
    await _warm_up(stand)
    return await courses[stand.scenario.kind](stand)


async def measure_saturated(stand: Stand) -> list[Answer]:
    """Return what a load that never pauses heard."""
    stand.on_phase("saturated")
    asks = demand.draw_asks(stand.draw("saturated"), _choose_speakers(stand))
    return await keep_busy(stand.door, asks, num_streams=MAX_SEQUENCES, seconds=stand.seconds)


async def _warm_up(stand: Stand) -> None:
    """Have what the engine makes at its first requests, and the adapters asked most, as many as it holds."""
    stand.on_phase("warm-up")
    chance = stand.draw("warm-up")
    speakers = _choose_speakers(stand)
    await ask_in_turn(stand.door, demand.list_first_words(_list_favourites(stand), chance))
    await keep_busy(
        stand.door,
        demand.draw_asks(chance, speakers),
        num_streams=MAX_SEQUENCES,
        seconds=min(_WARM_UP_S, stand.seconds),
    )


async def _run_steady(stand: Stand) -> SideResult:
    first_words = await ask_one_by_one(stand)
    begin_bytes = stand.door.measure_memory()
    saturated = await measure_saturated(stand)
    rate = stand.rate or _measure_rate(saturated, stand.seconds)
    stand.on_phase("open")
    arrivals = demand.draw_arrivals(stand.draw("open"), _choose_speakers(stand), rate * _OPEN_SHARE)
    heard = await let_arrive(stand.door, arrivals, seconds=stand.seconds)
    details = {
        **first_words,
        "open_requests": float(len(heard)),
        "memory_begin_mib": begin_bytes / _MIB,
        "memory_end_mib": stand.door.measure_memory() / _MIB,
        **(await _ask_never_seen(stand)),
    }
    throughput = measure_throughput(saturated, stand.seconds)
    samples = {"ttft": list_first_tokens_ms(heard)}
    return SideResult(rate, to_numbers(throughput, Latencies.of(heard), details), samples)


async def ask_one_by_one(stand: Stand) -> dict[str, float]:
    """Return the median first token of requests that are alone; where there is one adapter, of the base between them, too."""
    stand.on_phase("one at a time")
    favourites: Sequence[int] = _list_favourites(stand) or (BASE,)
    in_turn = (
        (0, BASE) * _NUM_ONE_BY_ONE if stand.scenario.num_speakers == 1 else islice(cycle(favourites), _NUM_ONE_BY_ONE)
    )
    heard = await ask_in_turn(stand.door, demand.list_first_words(in_turn, stand.draw("one at a time")))
    by_adapters = list_first_tokens_ms([answer for answer in heard if answer.speaker != BASE])
    by_base = list_first_tokens_ms([answer for answer in heard if answer.speaker == BASE])
    found = {"alone_ttft_p50_ms": percentile(by_adapters or by_base, 50)}
    if by_adapters and by_base:
        found["alone_base_ttft_p50_ms"] = percentile(by_base, 50)
    return found


async def _ask_never_seen(stand: Stand) -> dict[str, float]:
    """Return the first token of the adapters kept for it, and of the same ones asked again; nothing where none were kept."""
    kept = range(_count_asked(stand), stand.scenario.num_speakers)
    if not kept:
        return {}
    stand.on_phase("never seen")
    twice = [speaker for speaker in kept for _ in range(2)]
    asks = demand.list_first_words(twice, stand.draw("never seen"))
    found = list_first_tokens_ms(await ask_in_turn(stand.door, asks))
    return {
        "never_seen_ttft_p50_ms": percentile(found[::2], 50),
        "never_seen_ttft_max_ms": max(found[::2]),
        "warm_ttft_p50_ms": percentile(found[1::2], 50),
    }


async def _run_flood(stand: Stand) -> SideResult:
    """Ask as nine quiet tenants, alone, then beside one that floods; figures are of what the nine heard beside it."""
    seconds, num_tenants = stand.seconds, stand.scenario.num_speakers
    rate = stand.rate or _measure_rate(await measure_saturated(stand), seconds)
    share = rate / num_tenants
    quiet = dict.fromkeys(range(1, num_tenants), share * _QUIET_SHARE)
    stand.on_phase("quiet")
    alone = await let_arrive(stand.door, demand.draw_flood(stand.draw("quiet"), quiet, seconds), seconds=seconds)
    stand.on_phase("flood")
    chance = stand.draw("flood")
    asks = [
        ask if ask.speaker else demand.lengthen(chance, ask, stand.scenario.num_flood_questions)
        for ask in demand.draw_flood(chance, {**quiet, 0: share * _FLOOD_TIMES}, seconds)
    ]
    heard = await let_arrive(stand.door, asks, seconds=seconds, cut=frozenset({0}))
    beside = [answer for answer in heard if answer.speaker]
    flooding = [answer for answer in heard if not answer.speaker]
    alone_ms, beside_ms = list_first_tokens_ms(alone), list_first_tokens_ms(beside)
    details = {
        "quiet_alone_ttft_p50_ms": percentile(alone_ms, 50),
        "quiet_alone_ttft_p99_ms": percentile(alone_ms, 99),
        "quiet_beside_flood_ttft_p99_ms": percentile(beside_ms, 99),
        "quiet_p99_ratio": percentile(beside_ms, 99) / percentile(alone_ms, 99),
        "quiet_requests": float(len(beside)),
        "quiet_unanswered": float(sum(not answer.heard_s for answer in beside)),
        "flooder_requests": float(len(flooding)),
        "flooder_refused": float(sum(answer.is_refused for answer in flooding)),
    }
    numbers = to_numbers(measure_throughput(heard, seconds), Latencies.of(beside), details)
    return SideResult(rate, numbers, {"ttft": beside_ms, "ttft, no flood": alone_ms})


async def _run_swaps(stand: Stand) -> SideResult:
    """Keep some streams under way, first as they are, then while the first speaker gets a new adapter every second."""
    seconds = stand.seconds
    stand.on_phase("steady")
    asks = demand.draw_asks(stand.draw("steady"), Zipf(range(stand.scenario.num_speakers), 0))
    steady = await keep_busy(stand.door, asks, num_streams=_SWAP_STREAMS, seconds=seconds)
    stand.on_phase("swaps")
    asks = demand.draw_asks(stand.draw("swaps"), Zipf(range(stand.scenario.num_speakers), 0))
    swapping = asyncio.create_task(_swap_regularly(stand))
    heard = await keep_busy(stand.door, asks, num_streams=_SWAP_STREAMS, seconds=seconds)
    await swapping
    before, during = find_largest_gaps_ms(steady, seconds), find_largest_gaps_ms(heard, seconds)
    details = {
        "steady_output_tokens_per_second": measure_throughput(steady, seconds),
        "steady_largest_gap_ms": max(before, default=float("nan")),
        "swap_largest_gap_ms": max(during, default=float("nan")),
        "steady_median_gap_of_a_second_ms": percentile(before, 50),
        "swap_median_gap_of_a_second_ms": percentile(during, 50),
    }
    samples = {"gap, steady": before, "gap, swaps": during, "ttft": list_first_tokens_ms(heard)}
    return SideResult(0.0, to_numbers(measure_throughput(heard, seconds), Latencies.of(heard), details), samples)


def count_swaps(seconds: float) -> int:
    """Return how many swaps a phase has."""
    return int(seconds / _SWAP_EVERY_S)


async def _swap_regularly(stand: Stand) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in range(count_swaps(stand.seconds)):
        await asyncio.sleep(max(0.0, began_s + number * _SWAP_EVERY_S - loop.time()))
        await stand.door.swap(0)


def _measure_rate(saturated: Sequence[Answer], seconds: float) -> float:
    """Return the requests a second that were answered; one in a phase at least, so that something arrives on the slowest machine."""
    return max(measure_request_rate(saturated, seconds), 1 / seconds)


def _choose_speakers(stand: Stand) -> Zipf:
    return Zipf(range(_count_asked(stand)) or (BASE,), _ZIPF_EXPONENT)


def _count_asked(stand: Stand) -> int:
    """Return how many speakers a load asks: where there are more than an engine keeps loaded, some are kept for later."""
    num_speakers = stand.scenario.num_speakers
    return num_speakers - _NUM_NEVER_SEEN if num_speakers > MAX_CPU_LORAS else num_speakers


def _list_favourites(stand: Stand) -> range:
    """Return the speakers asked most, as many as an engine keeps loaded."""
    return range(min(stand.scenario.num_speakers, MAX_CPU_LORAS))
