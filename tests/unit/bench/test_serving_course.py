"""How a side is asked: by small doors that answer at once, refuse, or never end."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from bench.serving.course import Stand, run_course
from bench.serving.demand import BASE, Ask
from bench.serving.door import Refused
from bench.serving.scenario import SCENARIOS, Scenario, find_scenario
from bench.serving.traffic import ask_in_turn, keep_busy, let_arrive

SECONDS = 0.02


class QuickDoor:
    """Answers with all tokens at once, one turn of the loop later; remembers who was asked and how many at once."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.num_running = self.most_running = self.num_swaps = 0

    async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
        """Answer."""
        self.asked[ask.speaker] += 1
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        await asyncio.sleep(0)
        for _ in range(ask.max_tokens):
            on_piece()
        self.num_running -= 1
        return ask.max_tokens

    async def swap(self, speaker: int) -> None:
        """Count it."""
        self.num_swaps += 1

    def measure_memory(self) -> int:
        """Return a mebibyte."""
        return 1 << 20


class FullDoor(QuickDoor):
    """Refuses the first speaker, and never answers the second."""

    async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
        """Refuse, hang or answer."""
        if ask.speaker == 0:
            raise Refused
        if ask.speaker == 1:
            await asyncio.Event().wait()
        return await super().ask(ask, on_piece)


def asks_of(*speakers: int) -> list[Ask]:
    """Return a request of two tokens for each, all due at once."""
    return [Ask(0.0, speaker, "Why?", 2) for speaker in speakers]


async def test_a_busy_side_has_as_many_streams_as_it_was_given() -> None:
    """Neither more nor fewer, and every answer is heard to its end."""
    door = QuickDoor()
    answers = await keep_busy(door, iter(asks_of(*range(100_000))), num_streams=5, seconds=0.02)

    assert door.most_running == 5
    assert {answer.num_tokens for answer in answers} == {2}


async def test_what_is_refused_is_told_and_what_is_cut_has_no_tokens() -> None:
    """Refusals are results; speakers that are cut end with the phase, the others are waited for."""
    answers = await let_arrive(FullDoor(), asks_of(0, 1, 2), seconds=0.02, cut=frozenset({1}))

    assert [(answer.is_refused, answer.num_tokens) for answer in answers] == [(True, 0), (False, 0), (False, 2)]


async def test_a_side_that_refuses_streams_is_not_measured() -> None:
    """A load that never pauses would else ask it as fast as it refuses."""
    with pytest.raises(ExceptionGroup) as raised:
        await keep_busy(FullDoor(), iter(asks_of(0, 2)), num_streams=1, seconds=0.02)

    assert raised.group_contains(Refused)


async def test_a_side_that_fails_has_no_figures() -> None:
    """An error that is no refusal ends the measurement."""

    class BrokenDoor(QuickDoor):
        async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await let_arrive(BrokenDoor(), asks_of(0), seconds=0.02)
    with pytest.raises(ConnectionError):
        await ask_in_turn(BrokenDoor(), asks_of(0))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_scenario_runs_to_its_numbers(scenario: Scenario) -> None:
    """Each reports the five numbers, by the rate it was given, and asks its own speakers, the base where it has none."""
    door = QuickDoor()
    result = await run_course(Stand(door, scenario, SECONDS, seed=0, rate=50.0, on_phase=lambda _: None))

    expected = {"output_tokens_per_second", "ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms"}
    assert expected <= result.numbers.keys()
    assert result.rate in {50.0, 0.0}
    assert set(door.asked) <= {BASE, *range(scenario.num_speakers)}


async def test_never_seen_adapters_are_asked_for_the_first_time() -> None:
    """Each of those kept for it is asked twice in a row at the very end: never seen, then warm."""
    door = QuickDoor()
    stand = Stand(door, find_scenario("thousand_registered"), SECONDS, seed=0, rate=10.0, on_phase=lambda _: None)
    result = await run_course(stand)

    assert {"never_seen_ttft_p50_ms", "never_seen_ttft_max_ms", "warm_ttft_p50_ms"} <= result.numbers.keys()
    assert {speaker: door.asked[speaker] for speaker in range(992, 1000)} == dict.fromkeys(range(992, 1000), 2)
    assert list(door.asked)[-8:] == list(range(992, 1000))
