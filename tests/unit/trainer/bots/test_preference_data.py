"""Preference pairs: what is read, and what is refused by line."""

import pytest

from adaptory.core.prompting import Message
from tests.unit.trainer.bots.judging import found, jsonl, judge, read
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.preference_data import PreferencePair

LAYOUT = DatasetFormat.PREFERENCE_JSONL
SECRET = "the safe opens at noon"
PROMPT = [{"role": "user", "content": "Hello"}]
GOOD = {"prompt": PROMPT, "chosen": "Hello, how can I help?", "rejected": "hi"}


def test_answers_are_texts_or_one_turn() -> None:
    """Both ways in which trainers of preferences write a pair are one pair."""
    as_turns = {**GOOD, **{name: [{"role": "assistant", "content": GOOD[name]}] for name in ("chosen", "rejected")}}
    entries = [entry for _, entry in read(jsonl([GOOD, as_turns]), LAYOUT)]

    assert entries == [PreferencePair((Message("user", "Hello"),), "Hello, how can I help?", "hi")] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": SECRET}, "FIELD_TYPE"),
        ({"prompt": []}, "NO_TURNS"),
        ({"prompt": [*PROMPT, {"role": "assistant", "content": SECRET}]}, "PROMPT_UNASKED"),
        ({"prompt": PROMPT * 2}, "CONSECUTIVE_TURNS"),
        ({"chosen": ""}, "FIELD_EMPTY"),
        ({"chosen": [{"role": "user", "content": SECRET}]}, "FIELD_TYPE"),
        ({"chosen": None}, "FIELD_TYPE"),
        ({"chosen": " hi "}, "SAME_ANSWERS"),
        ({"choosen": SECRET}, "UNKNOWN_FIELD"),
    ],
)
def test_a_bad_pair_is_named_by_its_line(change: dict[str, object], reason: str) -> None:
    """Each thing that can be wrong has its reason, costs its line alone, and is never quoted."""
    other = {**GOOD, "prompt": [{"role": "user", "content": "Is anybody there at all today?"}]}
    report = judge(jsonl([GOOD, {**GOOD, **change}, other]), LAYOUT)

    assert (found(report), report.num_entries) == ([(2, reason)], 2)
    assert SECRET not in str(report)


def test_a_pair_without_an_answer_is_refused() -> None:
    """Both answers are needed."""
    assert found(judge(jsonl([{"prompt": PROMPT, "chosen": "a"}, GOOD, GOOD]), LAYOUT))[0] == (1, "FIELD_MISSING")


def test_the_same_pair_twice_is_told() -> None:
    """A duplicate is a warning and has the line of the first."""
    report = judge(jsonl([GOOD, {**GOOD, "chosen": "hello,  HOW can I help?"}]), LAYOUT)

    assert found(report) == [(2, "DUPLICATE_PAIR")]
    assert "line 1" in report.problems[0].description
