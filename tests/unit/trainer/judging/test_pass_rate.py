"""pass@1: what is counted, what is not, and what is said of it."""

from collections.abc import Callable

import pytest

from trainer_svc.judging.pass_rate import RunBudget, Trials, assemble
from trainer_svc.judging.sandbox import SandboxLimits, SandboxUnavailable
from trainer_svc.judging.scores import CodePlace, Judged

PLACE = CodePlace("def add(a, b):\n", "", test="assert add(2, 3) == 5")
RIGHT, WRONG = "    return a + b", "    return a - b"
BUDGET = RunBudget(total_s=10.0)


def task(base: str, adapter: str, *, reference: str = RIGHT, place: CodePlace | None = PLACE) -> Judged:
    """Return one task with its completions."""
    return Judged("", "", reference, base, adapter, place=place)


class Machine:
    """Runs the programs of these tests as a sandbox would, each in one second of its own clock."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now_s = 0.0
        self.programs: list[str] = []

    def open(self, _: SandboxLimits) -> Callable[[str], bool]:
        """Return what runs."""
        return self.run

    def run(self, program: str) -> bool:
        """Take a second; the right sum passes."""
        self.now_s += 1
        self.programs.append(program)
        return "return a + b" in program

    def trials(self, budget: RunBudget = BUDGET) -> Trials:
        """Return trials on this machine."""
        return Trials(budget, self.open, lambda: self.now_s)


def test_base_and_adapter_are_tried_by_the_same_tests() -> None:
    """A share of each, of the tests there were."""
    found = Machine().trials().measure([task(WRONG, RIGHT), task(WRONG, WRONG), task("x", RIGHT, place=None)])

    [score] = found.scores
    assert (score.name, score.base, score.adapter, score.num_answers) == ("pass_at_1", 0, 0.5, 2)
    assert found.notes == ()


def test_a_test_that_its_reference_fails_is_not_counted_and_said() -> None:
    """Neither answer is run for it."""
    machine = Machine()
    found = machine.trials().measure([task(RIGHT, RIGHT, reference=WRONG), task(WRONG, RIGHT)])

    assert [(score.adapter, score.num_answers) for score in found.scores] == [(1, 1)]
    assert found.notes[0].startswith("1 of 2 held-out tests are not passed by their own `canonical_solution`")
    assert len(machine.programs) == 4


def test_when_the_time_is_over_what_was_run_counts_alone() -> None:
    """A task that only some of its three answers had time for is no part of the score; the note has both numbers."""
    machine = Machine()
    found = machine.trials(RunBudget(total_s=7.0)).measure([task(WRONG, RIGHT)] * 5)

    assert [score.num_answers for score in found.scores] == [2]
    assert found.notes[0].startswith("2 of 5 held-out tests were run within 7 s")
    assert machine.now_s == 7


def test_stopped_trials_run_nothing() -> None:
    """So that a service that ends waits for one run at most."""
    machine = Machine()
    trials = machine.trials()
    trials.stop()

    assert trials.measure([task(WRONG, RIGHT)]).scores == ()
    assert machine.programs == []


def test_without_a_sandbox_the_score_is_missing_with_its_reason() -> None:
    """It is not 0, and no program runs elsewhere."""

    def refuse(_: SandboxLimits) -> Callable[[str], bool]:
        message = "bubblewrap is not installed."
        raise SandboxUnavailable(message)

    found = Trials(BUDGET, refuse).measure([task(WRONG, RIGHT)])

    assert found.scores == ()
    assert found.notes == ("pass_at_1 is missing for 1 held-out tests: bubblewrap is not installed.",)


def test_without_tests_no_sandbox_is_opened() -> None:
    """Where there is nothing to run there is nothing to say."""
    found = Trials(BUDGET, lambda _: pytest.fail("opened")).measure([task(WRONG, RIGHT, place=CodePlace("", ""))])

    assert (found.scores, found.notes) == ((), ())


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (RIGHT, RIGHT),
        (f"{RIGHT}\n\n\ndef other(x):\n    return [x fo", f"{RIGHT}\n\n\n"),
        (f"{RIGHT}\nHere is how it works:\n", f"{RIGHT}\n"),
        ("((", "(("),
        ("", ""),
    ],
)
def test_an_answer_that_goes_on_is_cut_where_it_parses(answer: str, kept: str) -> None:
    """A half line at its end is no reason to fail; an answer that never parses is run as it is."""
    assert assemble(PLACE, answer) == f"{PLACE.prefix}{kept}\n\n{PLACE.test}"
