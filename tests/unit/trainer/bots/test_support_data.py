"""Conversations: what is read, and what is refused by line."""

import json

import pytest

from adaptory.core.prompting import Message
from tests.unit.trainer.bots.judging import found, jsonl, judge, read, talk
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.support_data import Conversation

LAYOUT = DatasetFormat.CONVERSATION_JSONL
LIMITS = DataLimits(max_turns=6, max_turn_chars=50)
GOOD = talk("Hello, my lamp is broken.", "I am sorry. Which one?", "The red one.", "We send another.")
SECRET = "the safe opens at noon"


def turns(*pairs: tuple[object, object]) -> dict[str, object]:
    """Return a conversation of these roles and contents."""
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def test_a_conversation_is_one_row_of_all_its_turns() -> None:
    """Every turn is kept in order; the conversation may open with the agent."""
    opened = talk("Welcome!", "A room, please.", "For whom?", opening="assistant")
    entries = read(jsonl([GOOD, opened]), LAYOUT)

    assert [line for line, _ in entries] == [1, 2]
    assert entries[1][1] == Conversation(
        (Message("assistant", "Welcome!"), Message("user", "A room, please."), Message("assistant", "For whom?"))
    )


def test_what_serving_would_not_render_is_left_out_and_told() -> None:
    """A system turn of the data's own and a last turn without an answer are no part of the row."""
    own_system = turns(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye"))
    report = judge(jsonl([GOOD, own_system]), LAYOUT)
    (_, entry) = read(jsonl([own_system]), LAYOUT)[0]

    assert entry == Conversation((Message("user", "Hi"), Message("assistant", "Hello!")))
    assert found(report) == [(2, "SYSTEM_TURN_UNREAD"), (2, "UNANSWERED_TURN")]
    assert report.is_usable


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, "FIELD_MISSING"),
        ({"message": []}, "UNKNOWN_FIELD"),
        ({"messages": "hello"}, "FIELD_TYPE"),
        ({"messages": []}, "NO_TURNS"),
        ({"messages": ["hello"]}, "FIELD_TYPE"),
        ({"messages": [{"role": "user"}]}, "FIELD_MISSING"),
        (turns(("agent", SECRET), ("user", "b")), "UNKNOWN_ROLE"),
        (turns((["user"], "a")), "UNKNOWN_ROLE"),
        (turns(("user", ["a"])), "FIELD_TYPE"),
        (turns(("user", " "), ("assistant", "b")), "FIELD_EMPTY"),
        (turns(("user", SECRET)), "NO_AGENT_TURN"),
        (turns(("assistant", SECRET)), "NO_USER_TURN"),
        (turns(("assistant", "Welcome!"), ("user", SECRET)), "NO_AGENT_TURN"),
        (turns(("system", SECRET)), "NO_USER_TURN"),
        (turns(("user", "a"), ("user", SECRET), ("assistant", "c")), "CONSECUTIVE_TURNS"),
        (turns(("user", "a"), ("system", SECRET), ("assistant", "c")), "SYSTEM_TURN_LATE"),
        (turns(("user", "x" * 51), ("assistant", "b")), "TEXT_TOO_LONG"),
        (talk(*"abcdefgh"), "TOO_MANY_TURNS"),
    ],
)
def test_a_bad_conversation_is_named_by_its_line(bad: object, reason: str) -> None:
    """Each thing that can be wrong has its reason, costs its line alone, and is never quoted."""
    report = judge(jsonl([GOOD, bad, talk("Who?", "We.")]), LAYOUT, LIMITS)

    assert (found(report), report.num_entries) == ([(2, reason)], 2)
    assert SECRET not in str(report)


def test_deep_nesting_is_refused_before_it_is_parsed() -> None:
    """Brackets outside texts count, those inside do not."""
    deep = b'{"messages": ' + b"[" * 50 + b"]" * 50 + b"}\n"
    brackets = talk("[" * 40, "{" * 40)

    assert found(judge(deep + jsonl([GOOD, brackets]), LAYOUT, LIMITS)) == [(1, "INVALID_JSON")]


def test_fields_of_turns_that_are_not_read_are_told_once() -> None:
    """Exports carry names and times; one note is enough."""
    named = {"messages": [{"role": "user", "content": "Hi", "name": "Jo"}, {"role": "assistant", "content": "Hello!"}]}

    report = judge(jsonl([GOOD, named, {**talk("Who?", "We."), "id": 3}, {**named, "id": 4}]), LAYOUT)

    assert [problem for problem in found(report) if problem[1] == "UNKNOWN_FIELD"] == [
        (2, "UNKNOWN_FIELD"),
        (3, "UNKNOWN_FIELD"),
    ]


def test_a_byte_order_mark_is_skipped() -> None:
    """Editors of one system write it in front of every file."""
    assert len(read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), LAYOUT)) == 1
