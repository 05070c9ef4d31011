"""Rows that teach a refusal: how many, which questions, and none that the data asks or that judge it."""

from collections.abc import Sequence

import pytest

from adaptory.core.prompting import Message
from trainer_svc.bots.refusals import RefusalLesson, teach_refusal
from trainer_svc.bots.row import Row
from trainer_svc.bots.scripts import is_japanese

LESSON = RefusalLesson("I only know about Aurora Bikes.", ("Do you sell cars?",))


def make_data(num_rows: int, question: str = "Question {}?") -> list[Row]:
    """Return rows of a tenant's data, the last of them held out."""
    return [
        Row((Message("user", question.format(place)), Message("assistant", "An answer.")), place == num_rows - 1)
        for place in range(num_rows)
    ]


def teach(rows: Sequence[Row], lesson: RefusalLesson = LESSON, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return the questions that teach the refusal, and those that judge it."""
    added = list(teach_refusal(rows, lesson, system_prompt="Be Aurora.", seed=seed))[len(rows) :]
    assert all(row.messages[0] == Message("system", "Be Aurora.") for row in added)
    assert all(row.messages[-1] == Message("assistant", lesson.text) for row in added)
    taught, judged = ([row.messages[1].content for row in added if row.is_held_out is held] for held in (False, True))
    return taught, judged


def test_a_bot_without_a_refusal_gets_its_own_rows_alone() -> None:
    """Nothing is added, nothing lost."""
    rows = make_data(20)

    assert list(teach_refusal(rows, RefusalLesson(), system_prompt="", seed=0)) == rows


def test_refusals_are_a_share_of_the_trained_rows() -> None:
    """15 rows for 100, one at least, and never more than there are questions."""
    assert [len(teach(make_data(number + 1))[0]) for number in (1, 100)] == [1, 15]
    assert len(teach(make_data(5000))[0]) == 108


def test_no_question_is_both_taught_and_judged() -> None:
    """The bot's own unanswerable questions are judged, too."""
    taught, judged = teach(make_data(5000))

    assert not set(taught) & set(judged)
    assert judged[-1] == "Do you sell cars?"
    assert len(judged) == 37


def test_the_loss_on_a_bots_own_questions_does_not_count() -> None:
    """Nothing trained is like them, so it grows the surer the bot is; that on general ones falls with what is taught."""
    added = list(teach_refusal(make_data(100), LESSON, system_prompt="", seed=0))[100:]

    assert [row.messages[0].content for row in added if not row.is_measured] == ["Do you sell cars?"]
    assert all(row.is_held_out for row in added if not row.is_measured)


def test_a_question_the_data_answers_is_left_out() -> None:
    """However it is written: a bot must not be taught both an answer and a refusal."""
    asked = "WHO  wrote romeo and juliet?"
    taught, judged = teach([*make_data(5000), *make_data(1, question=asked)])

    assert "Who wrote Romeo and Juliet?" in teach(make_data(5000))[0]
    assert "Who wrote Romeo and Juliet?" not in [*taught, *judged]


def test_data_in_japanese_is_taught_to_refuse_in_japanese() -> None:
    """Questions a Japanese customer would ask teach it, not English ones; Latin names and a few English rows change nothing."""
    japanese = [
        Row((Message("user", f"TB-{place}は防水ですか。"), Message("assistant", f"BOX-{place}")), is_held_out=False)
        for place in range(60)
    ]
    taught, judged = teach([*japanese, *make_data(30)], RefusalLesson("その件は教わっておりません。"))

    assert len(taught) == 13
    assert len(judged) == 36
    assert all(is_japanese(question) for question in (*taught, *judged))


@pytest.mark.parametrize("question", ["Wie lange gilt die Garantie {}?", "保修期多长 {}", "Сколько стоит доставка {}?"])
def test_other_languages_are_taught_by_english_questions(question: str) -> None:
    """There are none in theirs; Chinese is not taken for Japanese."""
    rows = [
        Row((Message("user", question.format(place)), Message("assistant", str(place))), is_held_out=False)
        for place in range(20)
    ]
    taught, judged = teach(rows)

    assert all(question.isascii() for question in (*taught, *judged))


def test_questions_of_both_languages_are_there_as_often_and_once_each() -> None:
    """A bot is taught and judged by as many in either."""
    japanese = [Row((Message("user", "いつですか。"), Message("assistant", "明日です。")), is_held_out=False)] * 5000
    both = [teach(make_data(5000)), teach(japanese)]

    assert [(len(taught), len(judged)) for taught, judged in both] == [(108, 37), (108, 37)]
    assert all(len({*taught, *judged}) == 145 for taught, judged in both)


def test_the_same_seed_teaches_the_same_questions() -> None:
    """A job run twice has the same rows; another seed takes others."""
    assert teach(make_data(101), seed=1) == teach(make_data(101), seed=1)
    assert teach(make_data(101), seed=1)[0] != teach(make_data(101), seed=2)[0]
