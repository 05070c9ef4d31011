"""The whole way of a file, with a worker that trains nothing."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.quality_run import Course, Effort, Outcome, Refusal
from tests.fakes.base import write_base
from tests.fakes.trainer import FAQ_LINES, SUPPORT_LINES
from trainer_svc.bots.kinds import BotKind
from trainer_svc.jobs.machine import LocalMachine

EFFORT = Effort(
    limit_bytes=1 << 30, max_rows=10, max_row_tokens=500, max_train_tokens=20_000, system_prompt="You answer for Acme."
)


def take(
    folder: Path, lines: tuple[object, ...], behaviour: str = "succeed", effort: Effort = EFFORT
) -> Outcome | Refusal:
    """Take these lines the whole way."""
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "work").mkdir()
    worker = (sys.executable, "-m", "tests.fakes.worker", behaviour)
    course = Course(write_base(folder / "cache"), LocalMachine(folder / "cache"), effort, folder / "work", worker)
    return course.take(file, "data.jsonl")


def test_a_file_goes_from_data_to_a_verdict(tmp_path: Path) -> None:
    """It is cut to its first rows, split, trained, scored and gated, and each number is told."""
    outcome = take(tmp_path, FAQ_LINES)

    rows = next((tmp_path / "work").glob("*/train.jsonl")).read_text().splitlines()

    assert isinstance(outcome, Outcome)
    assert json.loads(rows[0])["messages"][0] == {"role": "system", "content": "You answer for Acme."}
    assert (outcome.kind, outcome.num_file_rows, outcome.num_rows) == (BotKind.FAQ, 12, 10)
    assert (outcome.evaluation.num_train_rows, outcome.evaluation.num_held_out_rows) == (9, 1)
    scores = {score.name: (score.base, score.adapter) for score in outcome.evaluation.scores}
    assert scores["fact_recall"] == (0.0, 1.0)
    assert outcome.faults == []


def test_a_training_is_cut_to_the_tokens_there_are_for_it(tmp_path: Path) -> None:
    """The recipe's steps and those that were affordable are both told to the worker's side and to the reader."""
    outcome = take(tmp_path, SUPPORT_LINES, effort=Effort(1 << 30, 8, 500, 4_000))
    spec = json.loads(next((tmp_path / "work").glob("*/spec.json")).read_text())

    assert isinstance(outcome, Outcome)
    assert outcome.kind is BotKind.SUPPORT
    assert 1 <= spec["training"]["max_steps"] < outcome.num_recipe_steps


def test_a_training_goes_on_for_the_epochs_that_are_given(tmp_path: Path) -> None:
    """In place of those of the recipe, which then has as many steps."""
    outcome = take(tmp_path, FAQ_LINES, effort=replace(EFFORT, epochs=3, max_train_tokens=1_000_000))
    spec = json.loads(next((tmp_path / "work").glob("*/spec.json")).read_text())

    assert isinstance(outcome, Outcome)
    assert spec["training"]["epochs"] == 3
    # Nine rows of ten, eight a step.
    assert spec["training"]["max_steps"] == outcome.num_recipe_steps == 6


def test_an_adapter_that_answers_wrong_is_told_with_the_gates_sentence(tmp_path: Path) -> None:
    """The gate is the service's own, with its defaults."""
    outcome = take(tmp_path, FAQ_LINES, "learn_wrong_answers")

    assert isinstance(outcome, Outcome)
    assert "the gate wants 0.35 more than the base" in outcome.faults[0]


@pytest.mark.parametrize(
    ("lines", "behaviour", "effort", "why"),
    [
        (({"question": "?"},), "succeed", EFFORT, "line 1: `answer` is missing"),
        (FAQ_LINES, "succeed", Effort(1 << 30, 10, 20, 20_000), "raise --max-row-tokens"),
        (FAQ_LINES, "succeed", Effort(1 << 10, 10, 500, 20_000), "limit"),
        (FAQ_LINES, "run_out_of_memory", EFFORT, "A worker failed"),
    ],
    ids=["bad data", "rows too long", "does not fit", "out of memory"],
)
def test_what_the_service_would_not_make_a_bot_of_is_a_refusal(
    tmp_path: Path, lines: tuple[object, ...], behaviour: str, effort: Effort, why: str
) -> None:
    """With its reason, and the measurement goes on."""
    refused = take(tmp_path, lines, behaviour, effort)

    assert isinstance(refused, Refusal)
    assert why in refused.why
