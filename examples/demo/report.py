"""What the demo found: the numbers of each bot, the verdict, `report.json` and the table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adaptory.cli.sizes import format_bytes
from examples.demo.companies import Question
from examples.demo.quiz import Answer, holds

MIN_ACCURACY_AFTER = 0.8
MIN_GAIN = 0.5
_NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out question with what the base and the bot made of it."""

    question: str
    reference: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class BotReport:
    """One bot. Accuracy is the share of held-out questions answered with their fact; losses are in nats, on held-out rows.

    The time to the first token is that of one request alone; the busy one is the median while both tenants' streams run at once.
    """

    tenant: str
    bot: str
    kind: str
    job: str
    version: str
    digest: str
    base_loss: float
    adapter_loss: float
    accuracy_before: float
    accuracy_after: float
    memory_limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    train_tokens_per_second: float
    train_seconds: float
    hot_load_seconds: float
    time_to_first_token_seconds: float
    busy_time_to_first_token_seconds: float
    samples: tuple[Sample, ...]


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
        failures = list(self.leaks)
        for bot in self.bots:
            told = f"{bot.bot} knows {bot.accuracy_after:.0%} of its facts, the base {bot.accuracy_before:.0%}"
            if bot.accuracy_after < MIN_ACCURACY_AFTER:
                failures.append(f"{told}; it should know {MIN_ACCURACY_AFTER:.0%}")
            elif bot.accuracy_after - bot.accuracy_before < MIN_GAIN:
                failures.append(f"{told}; it should know {MIN_GAIN:.0%} more")
        return failures

    def write(self, file: Path) -> None:
        """Write the report as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def make_samples(
    questions: Sequence[Question], before: Sequence[Answer], after: Sequence[Answer]
) -> tuple[Sample, ...]:
    """Lay the answers of the base and of the bot side by side."""
    rows = zip(questions, before, after, strict=True)
    return tuple(Sample(question.question, question.answer, base.text, bot.text) for question, base, bot in rows)


def print_report(console: Console, report: DemoReport, questions: Sequence[Sequence[Question]]) -> None:
    """Print some answers of every bot, then the numbers."""
    for bot, asked in zip(report.bots, questions, strict=True):
        console.print(_answers_table(bot, asked))
    console.print(_numbers_table(report.bots))


def _answers_table(bot: BotReport, asked: Sequence[Question]) -> Table:
    table = Table(
        "question, never trained", "the base", bot.version.partition("/bots/")[2], title=bot.tenant, show_lines=True
    )
    for sample, question in list(zip(bot.samples, asked, strict=True))[:_NUM_SHOWN]:
        style = "green" if holds(sample.after, question.fact) else "red"
        table.add_row(Text(sample.question), Text(sample.before, style="dim"), Text(sample.after, style=style))
    return table


def _numbers_table(bots: Sequence[BotReport]) -> Table:
    table = Table("", *(bot.bot for bot in bots), title="Before and after")
    rows = {
        "facts known, before": [f"{bot.accuracy_before:.0%}" for bot in bots],
        "facts known, after": [f"{bot.accuracy_after:.0%}" for bot in bots],
        "held-out loss, base": [f"{bot.base_loss:.3f}" for bot in bots],
        "held-out loss, adapter": [f"{bot.adapter_loss:.3f}" for bot in bots],
        "training": [f"{bot.train_seconds:.0f} s, {bot.train_tokens_per_second:,.0f} tokens/s" for bot in bots],
        "peak memory, measured": [format_bytes(bot.measured_peak_bytes) for bot in bots],
        "peak memory, predicted": [format_bytes(bot.predicted_peak_bytes) for bot in bots],
        "memory limit": [format_bytes(bot.memory_limit_bytes) for bot in bots],
        "promoted to first token": [f"{bot.hot_load_seconds * 1000:,.0f} ms" for bot in bots],
        "time to first token, alone": [f"{bot.time_to_first_token_seconds * 1000:,.0f} ms" for bot in bots],
        "time to first token, busy": [f"{bot.busy_time_to_first_token_seconds * 1000:,.0f} ms" for bot in bots],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
