"""What the quality measurement says it found."""

import json
from dataclasses import replace

from rich.console import Console

from bench.quality_report import build_document, build_table
from bench.quality_run import Outcome, Refusal
from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.scores import Score

GOOD = Outcome(
    file="faq/shop.jsonl",
    kind=BotKind.FAQ,
    format="FAQ_JSONL",
    num_file_rows=2023,
    num_rows=60,
    num_left_out=0,
    num_problems=1,
    num_steps=90,
    num_recipe_steps=150,
    best_step=90,
    evaluation=Evaluation(
        base_loss=3.25,
        adapter_loss=1.5,
        num_held_out_rows=12,
        num_train_rows=48,
        train_tokens_per_second=400.0,
        train_seconds=60.0,
        base_general_loss=3.9,
        adapter_general_loss=4.4,
        scores=(Score("fact_recall", 0.125, 0.875, 12), Score("false_refusals", 0.0, 0.05, 12, is_lower_better=True)),
    ),
    limit_bytes=2 << 30,
    predicted_peak_bytes=600 << 20,
    peak_bytes=590 << 20,
    seconds=125.4,
)
BAD = replace(
    GOOD, file="faq/odd.jsonl", num_left_out=7, best_step=60, faults=["Its fact_recall is 0.125, the base's 0.125."]
)
UNUSED = Refusal("talks.jsonl", "talks.jsonl cannot be trained on: line 1: no")


def _print(*found: Outcome | Refusal, width: int = 120) -> str:
    console = Console(width=width, record=True)
    console.print(build_table(found))
    return console.export_text()


def test_the_main_score_stands_beside_its_file_with_verdict_time_and_peak() -> None:
    """The first line of a file has all that matters; the others follow in the order in which they were scored."""
    lines = _print(GOOD).splitlines()
    first = next(place for place, line in enumerate(lines) if "faq/shop.jsonl" in line)

    cells = ("fact_recall", "0.125", "0.875", "12", "READY", "2:05 min", "590 MiB")
    assert all(cell in lines[first] for cell in cells)
    assert "false_refusals ↓" in lines[first + 1]
    assert ["3.250" in lines[first + 2], "4.400" in lines[first + 3]] == [True, True]


def test_what_was_used_of_a_file_is_told() -> None:
    """Rows and steps of how many, entries left out and steps whose adapter was not kept, where there were any."""
    good, bad = _print(GOOD), _print(BAD)

    assert "60 of 2,023 wordings" in good
    assert "48 rows learned, 12 held out" in good
    assert "90 of 150 steps" in good
    assert ("left out" in good, "7 left out as too long" in bad) == (False, True)
    assert ("the adapter of step" in good, "the adapter of step 60" in bad) == (False, True)


def test_a_rejected_adapter_and_an_unused_file_say_why() -> None:
    """Below the table, by the file's name."""
    text = " ".join(_print(GOOD, BAD, UNUSED).split())

    assert "REJECTED" in text
    assert "faq/odd.jsonl is rejected: Its fact_recall is 0.125" in text
    assert "talks.jsonl is not used: talks.jsonl cannot be trained on" in text


def test_the_document_keeps_files_and_refusals_apart() -> None:
    """Every number is there for a program, with verdict, machine and versions, and it is JSON."""
    document = json.loads(json.dumps(build_document([GOOD, BAD, UNUSED], settings={"max_rows": 60})))

    assert [(file["file"], file["verdict"]) for file in document["files"]] == [
        ("faq/shop.jsonl", "READY"),
        ("faq/odd.jsonl", "REJECTED"),
    ]
    assert document["files"][0]["evaluation"]["scores"][0]["adapter"] == 0.875
    assert document["refused"] == [{"file": "talks.jsonl", "why": UNUSED.why}]
    assert {"date", "machine", "versions", "settings"} <= document.keys()
