"""What the demo found: the numbers of each bot, and the verdict, as `report.json` keeps them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from examples.demo.companies import Question
from examples.demo.quiz import Answer, holds

MIN_ACCURACY_AFTER = 0.8
MIN_GAIN = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt of no training row with what the base and the bot made of it.

    `reference` is empty where there is none, `before` None where the base was not asked; `is_right` tells whether the bot's answer
    has the fact it must have, where there is one.
    """

    question: str
    reference: str
    before: str | None
    after: str
    is_right: bool | None = None


@dataclass(frozen=True, slots=True)
class BotScore:
    """One score of base and adapter on held-out rows, as it is kept with the version."""

    name: str
    base: float
    adapter: float
    num_answers: int
    is_lower_better: bool


@dataclass(frozen=True, slots=True)
class Quizzed:
    """What held-out questions over streams showed of an FAQ bot.

    Accuracy is the share of questions answered with their fact; the busy time to the first token is the median while all FAQ bots'
    streams run at once.
    """

    accuracy_before: float
    accuracy_after: float
    busy_time_to_first_token_seconds: float


@dataclass(frozen=True, slots=True)
class BotReport:
    """One bot. Losses are in nats, on held-out rows and on general text; the time to the first token is that of one request alone."""

    tenant: str
    bot: str
    kind: str
    job: str
    version: str
    digest: str
    base_loss: float
    adapter_loss: float
    base_general_loss: float
    adapter_general_loss: float
    main_score: str
    min_gain: float
    scores: tuple[BotScore, ...]
    quizzed: Quizzed | None
    memory_limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    train_tokens_per_second: float
    train_seconds: float
    hot_load_seconds: float
    time_to_first_token_seconds: float
    samples: tuple[Sample, ...]
    card: str

    def find_score(self, name: str) -> BotScore | None:
        """Return the score of this name, where it was taken."""
        return next((score for score in self.scores if score.name == name), None)

    def find_failures(self) -> list[str]:
        """Return a sentence for everything the bot was to show and did not."""
        failures = []
        main = self.find_score(self.main_score)
        if main is None:
            failures.append(f"{self.version} has no {self.main_score}")
        elif main.adapter - main.base < self.min_gain:
            told = f"{self.version} has a {main.name} of {main.adapter:.2f}, the base of {main.base:.2f}"
            failures.append(f"{told}; it should have {self.min_gain:.2f} more")
        return failures + (self._find_ignorance(self.quizzed) if self.quizzed else [])

    def _find_ignorance(self, quizzed: Quizzed) -> list[str]:
        told = f"{self.bot} knows {quizzed.accuracy_after:.0%} of its facts, the base {quizzed.accuracy_before:.0%}"
        if quizzed.accuracy_after < MIN_ACCURACY_AFTER:
            return [f"{told}; it should know {MIN_ACCURACY_AFTER:.0%}"]
        if quizzed.accuracy_after - quizzed.accuracy_before < MIN_GAIN:
            return [f"{told}; it should know {MIN_GAIN:.0%} more"]
        return []


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole demo. `setup_seconds` is 0 when the environment was there before."""

    setup_seconds: float
    wall_seconds: float
    bots: tuple[BotReport, ...]
    leaks: tuple[str, ...]
    metrics: dict[str, float]

    def find_failures(self) -> list[str]:
        """Return a sentence for everything the demo was to show and did not."""
        return [*self.leaks, *(failure for bot in self.bots for failure in bot.find_failures())]

    def write(self, file: Path) -> None:
        """Write the report as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def make_samples(
    questions: Sequence[Question], before: Sequence[Answer | None], after: Sequence[Answer]
) -> tuple[Sample, ...]:
    """Lay the answers of the base and of the bot side by side."""
    return tuple(
        Sample(
            question=question.question,
            reference=question.answer,
            before=base.text if base else None,
            after=bot.text,
            is_right=holds(bot.text, question.fact),
        )
        for question, base, bot in zip(questions, before, after, strict=True)
    )
