"""pass@1: the share of completions whose test passes. Tests run in the sandbox alone, all of a job within one budget of time.

A test that its own reference does not pass says nothing of an answer and is not counted; neither is one whose time never came. Only
Python is run.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from trainer_svc.judging.code import parses
from trainer_svc.judging.sandbox import Sandbox, SandboxLimits, SandboxUnavailable
from trainer_svc.judging.scores import CodePlace, Judged, Score

PASS_AT_1 = "pass_at_1"  # noqa: S105 - a score's name

# Tells whether a Python program runs to its end, as `sandbox.Sandbox.runs` does.
Runs = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class RunBudget:
    """What the tests of one job may take: seconds for all of them, after which none is begun, and the limits of each run."""

    total_s: float = 120.0
    each: SandboxLimits = field(default_factory=SandboxLimits)


@dataclass(frozen=True, slots=True)
class PassRate:
    """What came of a job's tests; without any, neither scores nor notes."""

    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Who passes one test."""

    reference: bool
    base: bool
    adapter: bool


class Trials:
    """Runs the tests of one job, one program after the other, until they are run, their time is over, or `stop` is called."""

    def __init__(
        self,
        budget: RunBudget,
        open_sandbox: Callable[[SandboxLimits], Runs] = lambda limits: Sandbox(limits).runs,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the budget; the sandbox, which may raise SandboxUnavailable, is opened when there is a test to run."""
        self._budget = budget
        self._open_sandbox = open_sandbox
        self._monotonic = monotonic
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Begin no further test; a run that is under way ends within the limits of one."""
        self._stopped.set()

    def measure(self, judged: Sequence[Judged]) -> PassRate:
        """Return how many base and adapter pass of the tests there are. Blocks."""
        tested = [one for one in judged if one.place is not None and one.place.test]
        if not tested:
            return PassRate()
        try:
            runs = self._open_sandbox(self._budget.each)
        except SandboxUnavailable as error:
            return PassRate(notes=(f"{PASS_AT_1} is missing for {len(tested)} held-out tests: {error.message}",))
        outcomes = list(self._run_all(tested, runs))
        counted = [outcome for outcome in outcomes if outcome.reference]
        notes = tuple(self._tell(len(tested), len(outcomes), len(counted)))
        return PassRate((_score(counted),) if counted else (), notes)

    def _run_all(self, tested: Sequence[Judged], runs: Runs) -> Iterator[_Outcome]:
        """Yield who passes each test, as long as there is time to run it on all three; without the reference nobody else is tried."""
        end_s = self._monotonic() + self._budget.total_s
        for one in tested:
            passed: list[bool] = []
            for answer in (one.reference, one.base, one.adapter):
                if self._stopped.is_set() or self._monotonic() >= end_s:
                    return
                passed.append(all(passed[:1]) and one.place is not None and runs(assemble(one.place, answer)))
            yield _Outcome(*passed)

    def _tell(self, num_tests: int, num_run: int, num_counted: int) -> Iterator[str]:
        if num_run < num_tests:
            yield (
                f"{num_run} of {num_tests} held-out tests were run within {self._budget.total_s:.0f} s; {PASS_AT_1} is theirs. Raise "
                "`code_tests_seconds` of the service to run all."
            )
        if num_counted < num_run:
            yield (
                f"{num_run - num_counted} of {num_run} held-out tests are not passed by their own `canonical_solution` in the "
                f"sandbox; they do not count in {PASS_AT_1}."
            )


def _score(counted: Sequence[_Outcome]) -> Score:
    base, adapter = (fmean(passed) for passed in zip(*((one.base, one.adapter) for one in counted), strict=True))
    return Score(PASS_AT_1, base, adapter, len(counted))


def assemble(place: CodePlace, answer: str) -> str:
    """Return the program that tests an answer: the file with it, and the test behind it.

    Of an answer the last lines are left out until the file parses: one that goes on until its last token would else fail for its half
    line. HumanEval's harness cuts answers for that, too, by stop sequences (Chen et al. 2021). What never parses fails as it is.
    """
    lines = answer.splitlines(keepends=True)
    cut = (place.fill("".join(lines[:end])) for end in range(len(lines), 0, -1))
    file = next(filter(parses, cut), place.fill(answer))
    return f"{file}\n\n{place.test}"
