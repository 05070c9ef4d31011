"""Shows what the demo found: on a console, and as a page of the same tables."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adaptory.cli.sizes import format_bytes
from examples.demo.report import BotReport, DemoReport, Sample

_NUM_SHOWN = 3
_PAGE_WIDTH = 130


def print_report(console: Console, report: DemoReport) -> None:
    """Print some answers of every bot, then the numbers, and what the demo was to show and did not."""
    for bot in report.bots:
        console.print(_answers_table(bot))
    console.print(_numbers_table(report.bots))
    for failure in (failures := report.find_failures()):
        console.print(Text(f"✗ {failure}", style="bold red"), soft_wrap=True)
    if not failures:
        sentence = "✓ Each bot is far better than its base, passed the gate, and knows nothing of another company."
        console.print(Text(sentence, style="bold green"))
    for bot in report.bots:
        console.print(Text.assemble("card of ", bot.version, ": ", (bot.card, "bold")), soft_wrap=True)


def write_page(report: DemoReport, file: Path) -> None:
    """Write what `print_report` prints as a page of HTML."""
    console = Console(record=True, file=io.StringIO(), width=_PAGE_WIDTH)
    print_report(console, report)
    console.save_html(str(file))


def _answers_table(bot: BotReport) -> Table:
    table = Table(
        "never trained",
        "the base",
        bot.version.partition("/bots/")[2],
        title=f"{bot.tenant}, {bot.kind}",
        show_lines=True,
    )
    for sample in [sample for sample in bot.samples if sample.before is not None][:_NUM_SHOWN]:
        table.add_row(
            Text(sample.question),
            Text(sample.before or "", style="dim"),
            Text(sample.after, style=_choose_style(sample)),
        )
    return table


def _choose_style(sample: Sample) -> str:
    if sample.is_right is None:
        return ""
    return "green" if sample.is_right else "red"


def _numbers_table(bots: Sequence[BotReport]) -> Table:
    table = Table("", *(bot.bot.removeprefix("tenants/") for bot in bots), title="Before and after")
    quizzed = [bot.quizzed for bot in bots]
    rows = {
        "facts known, before": [f"{quiz.accuracy_before:.0%}" if quiz else "" for quiz in quizzed],
        "facts known, after": [f"{quiz.accuracy_after:.0%}" if quiz else "" for quiz in quizzed],
        **_list_scores(bots),
        "held-out loss": [f"{bot.base_loss:.2f} → {bot.adapter_loss:.2f}" for bot in bots],
        "general loss": [f"{bot.base_general_loss:.2f} → {bot.adapter_general_loss:.2f}" for bot in bots],
        "training": [f"{bot.train_seconds:.0f} s, {bot.train_tokens_per_second:,.0f} tokens/s" for bot in bots],
        "peak memory, measured": [format_bytes(bot.measured_peak_bytes) for bot in bots],
        "peak memory, predicted": [format_bytes(bot.predicted_peak_bytes) for bot in bots],
        "memory limit": [format_bytes(bot.memory_limit_bytes) for bot in bots],
        "promoted to first token": [_format_ms(bot.hot_load_seconds) for bot in bots],
        "time to first token, alone": [_format_ms(bot.time_to_first_token_seconds) for bot in bots],
        "time to first token, busy": [
            _format_ms(quiz.busy_time_to_first_token_seconds) if quiz else "" for quiz in quizzed
        ],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _list_scores(bots: Sequence[BotReport]) -> dict[str, list[str]]:
    """Return a row for each score that any bot has, base → adapter; the rules of style are in the cards one by one."""
    names = dict.fromkeys(score.name for bot in bots for score in bot.scores)
    rows = {}
    for name in names:
        if name.startswith("style_") and name != "style_kept":
            continue
        scores = [bot.find_score(name) for bot in bots]
        rows[name.replace("_", " ")] = [f"{score.base:.2f} → {score.adapter:.2f}" if score else "" for score in scores]
    return rows


def _format_ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
