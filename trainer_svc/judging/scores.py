"""Scores of base and adapter on the same prompts, as they are kept with a version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where a completion goes, and what tests the file it makes: Python that fails when it raises; empty where nothing does.

    `is_python` may be true where it is not known: a file that does not parse with its reference is no measure of syntax.
    """

    prefix: str
    suffix: str
    is_python: bool = True
    test: str = ""

    def fill(self, middle: str) -> str:
        """Return the whole file."""
        return self.prefix + middle + self.suffix


@dataclass(frozen=True, slots=True)
class Judged:
    """One prompt with both answers.

    `prompt` is all the bot was told, `question` the last thing it was asked; `turn` counts the bot's turns before this one. `place`
    is there where the answer is code. `certainty` is how sure the adapter was, 0 to 1, as `adaptory.client.measure_certainty` says.
    """

    prompt: str
    question: str
    reference: str
    base: str
    adapter: str
    turn: int = 0
    place: CodePlace | None = None
    certainty: float = 1.0


@dataclass(frozen=True, slots=True)
class Score:
    """What base and adapter reached, means over `num_answers` answers; more is better unless `is_lower_better`."""

    name: str
    base: float
    adapter: float
    num_answers: int
    is_lower_better: bool = False


Measure = Callable[[str, Judged], float]


def compare(name: str, judged: Sequence[Judged], measure: Measure, *, is_lower_better: bool = False) -> list[Score]:
    """Return the score of a measure, given an answer and its prompt, over all; none where there is nothing to measure it on."""
    if not judged:
        return []
    base = sum(measure(one.base, one) for one in judged) / len(judged)
    adapter = sum(measure(one.adapter, one) for one in judged) / len(judged)
    return [Score(name, base, adapter, len(judged), is_lower_better)]
