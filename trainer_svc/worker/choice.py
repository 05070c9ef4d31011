"""Which of a job's candidates is judged and staged: the best on held-out rows of those that the bot's gate allows for general text.

What an adapter lost of general text is measured once training has given its memory back, and of the best candidate first: most jobs
measure one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and its loss on general text, in nats."""

    candidate: Candidate
    general_loss: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The adapter that is kept, and those that were better on held-out rows and passed over.

    `kept` is None where there was nothing to choose from. `base_general_loss` is what losses on general text rise from, in nats.
    """

    base_general_loss: float
    general_loss: float
    kept: Candidate | None = None
    passed_over: tuple[Tried, ...] = ()

    @property
    def step(self) -> int:
        """The step whose adapter is kept; 0 where there was nothing to choose from."""
        return self.kept.step if self.kept else 0


class Chooser:
    """Chooses among candidates; with none, what the adapter is."""

    def __init__(self, candidates: Sequence[Candidate] = (), max_general_rise: float | None = None) -> None:
        """Take the candidates, best first, and by how many nats the loss on general text may rise, without limit where it is None."""
        self._candidates = candidates
        self._max_general_rise = inf if max_general_rise is None else max_general_rise

    def choose(self, adapter: Adapter, base_general_loss: float, measure_general: Callable[[], float]) -> Choice:
        """Give the adapter the values of the one that is kept, as they are served; `measure_general` returns its loss.

        Where the gate would let none pass, the best on held-out rows is kept, to be looked at. Raises as `Candidate.restore`.
        """
        tried: list[Tried] = []
        for candidate in self._candidates:
            _take(candidate, adapter)
            general_loss = measure_general()
            if general_loss - base_general_loss <= self._max_general_rise:
                return Choice(base_general_loss, general_loss, candidate, tuple(tried))
            tried.append(Tried(candidate, general_loss))
        if not tried:
            return Choice(base_general_loss, measure_general())
        best = tried[0]
        _take(best.candidate, adapter)
        return Choice(base_general_loss, best.general_loss, best.candidate)

    def describe(self, choice: Choice, num_steps: int) -> str:
        """Return what to tell of a choice, of a job planned for so many steps; empty where the adapter is that of the last one."""
        kept = choice.kept
        if kept is None or kept.step == num_steps:
            return ""
        if not choice.passed_over:
            return f"The adapter of step {kept.step} is kept, whose loss on held-out rows was lowest: {kept.loss:.3f}."
        best = choice.passed_over[0]
        return (
            f"The adapter of step {kept.step} is kept, with a loss of {kept.loss:.3f} on held-out rows. That of step "
            f"{best.candidate.step} has {best.candidate.loss:.3f}, but its loss on general text rose by "
            f"{best.general_loss - choice.base_general_loss:.2f} nats, and the bot's gate allows {self._max_general_rise:.2f}."
        )


def _take(candidate: Candidate, adapter: Adapter) -> None:
    candidate.restore(adapter)
    adapter.round_as_served()
