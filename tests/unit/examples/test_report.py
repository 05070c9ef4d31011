"""What the demo's report says of its bots."""

from dataclasses import replace
from pathlib import Path

from examples.demo.display import write_page
from examples.demo.report import BotReport, BotScore, DemoReport, Quizzed, Sample

_CODE = BotReport(
    tenant="tenants/corvus",
    bot="tenants/corvus/bots/code",
    kind="code_completion",
    job="tenants/corvus/trainingJobs/1",
    version="tenants/corvus/bots/code/versions/1",
    digest="d1",
    base_loss=3.0,
    adapter_loss=2.0,
    base_general_loss=3.5,
    adapter_general_loss=3.6,
    main_score="edit_similarity",
    min_gain=0.1,
    scores=(BotScore("edit_similarity", 0.1, 0.4, 29, is_lower_better=False),),
    quizzed=None,
    memory_limit_bytes=1 << 30,
    predicted_peak_bytes=1 << 29,
    measured_peak_bytes=1 << 29,
    train_tokens_per_second=400.0,
    train_seconds=60.0,
    hot_load_seconds=0.5,
    time_to_first_token_seconds=0.2,
    samples=(Sample("import ▮", "os", "<b>nothing</b>", "os"),),
    card="cards/corvus-code-1.html",
)


def test_a_bot_that_gains_enough_has_no_failure() -> None:
    """The main score of its kind is what counts."""
    assert _report(_CODE).find_failures() == []


def test_a_bot_that_is_hardly_better_than_its_base_fails_with_the_numbers() -> None:
    """The demo does not pass over a bot that its gate let through by little."""
    weak = replace(_CODE, scores=(BotScore("edit_similarity", 0.1, 0.16, 29, is_lower_better=False),))
    (failure,) = _report(weak).find_failures()
    assert "tenants/corvus/bots/code/versions/1" in failure
    assert "0.16" in failure
    assert "0.10 more" in failure


def test_a_bot_without_its_main_score_fails() -> None:
    """Nothing measured is nothing shown."""
    (failure,) = _report(replace(_CODE, scores=())).find_failures()
    assert "edit_similarity" in failure


def test_a_bot_that_knows_too_few_of_its_facts_fails() -> None:
    """What the served bot answers counts beside what its version scored."""
    (failure,) = _report(replace(_CODE, quizzed=Quizzed(0.0, 0.7, 0.5))).find_failures()
    assert "70%" in failure


def test_the_page_shows_scores_answers_and_cards_and_escapes_answers(tmp_path: Path) -> None:
    """Whatever a model says is text on the page."""
    page = tmp_path / "report.html"
    write_page(_report(_CODE), page)
    text = page.read_text(encoding="utf-8")
    assert "0.10 → 0.40" in text
    assert "cards/corvus-code-1.html" in text
    assert "<b>nothing</b>" not in text


def _report(bot: BotReport) -> DemoReport:
    return DemoReport(setup_seconds=0.0, wall_seconds=1.0, bots=(bot,), leaks=(), metrics={})
