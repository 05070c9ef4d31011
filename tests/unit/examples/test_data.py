"""The example FAQs: in as many wordings each, none asking what it trained, one of them in Japanese."""

import json
from pathlib import Path

import pytest

from examples.demo.companies import DATA_DIR
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.scripts import is_japanese

FOLDERS = sorted(path.parent for path in DATA_DIR.glob("*/faq.jsonl"))
# By folder: entries, and wordings of each.
SHAPES = {"aurora": (48, 3), "tsubame": (16, 5)}
each_faq = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def read(file: Path) -> list[dict[str, str]]:
    """Return the lines of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@each_faq
def test_every_entry_of_an_faq_has_as_many_wordings_and_no_warnings(folder: Path) -> None:
    """But for what looks like personal data: addresses and numbers are made up."""
    with (folder / "faq.jsonl").open("rb") as file:
        report = judge_dataset(file, BotKind.FAQ, DatasetFormat.FAQ_JSONL, DataLimits(), None)

    num_entries, num_wordings = SHAPES[folder.name]
    assert (report.num_entries, report.num_rows) == (num_entries, num_wordings * num_entries)
    assert report.num_by_reason.keys() <= {"PERSONAL_EMAIL", "PERSONAL_PHONE"}


@each_faq
def test_what_is_asked_was_never_trained_and_its_fact_is_in_its_answer_alone(folder: Path) -> None:
    """One more wording of each entry, in their order."""
    entries, asked = read(folder / "faq.jsonl"), read(folder / "held_out.jsonl")
    trained = {wording for entry in entries for wording in (entry["question"], *entry["wordings"])}

    assert not trained & {line["question"] for line in asked}
    assert [line["answer"] for line in asked] == [entry["answer"] for entry in entries]
    for line in asked:
        assert [other["answer"] for other in asked if line["fact"] in other["answer"]] == [line["answer"]]


@each_faq
def test_an_faq_is_in_one_language(folder: Path) -> None:
    """Every question and answer, so that its bot is taught to refuse in it."""
    texts = [line[name] for line in read(folder / "held_out.jsonl") for name in ("question", "answer")]

    assert {is_japanese(text) for text in texts} == {folder.name == "tsubame"}


def test_what_must_be_refused_is_asked_nowhere_else() -> None:
    """Each question once, in no wording that is trained or asked, and ending as a question does."""
    folder = DATA_DIR / "aurora"
    questions = (folder / "unanswerable.txt").read_text(encoding="utf-8").splitlines()
    trained = {wording for entry in read(folder / "faq.jsonl") for wording in (entry["question"], *entry["wordings"])}
    asked = {line["question"] for line in read(folder / "held_out.jsonl")}

    assert len(set(questions)) == len(questions) > 0
    assert not set(questions) & (trained | asked)
    assert all(question.endswith("?") for question in questions)
