"""Rows that teach a refusal: how many, which questions, and none that the data asks or that judge it."""

from collections.abc import Sequence

from adaptory.core.prompting import Message
from trainer_svc.bots.refusals import RefusalLesson, teach_refusal
from trainer_svc.bots.row import Row

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


def test_a_question_the_data_answers_is_left_out() -> None:
    """However it is written: a bot must not be taught both an answer and a refusal."""
    asked = "WHO  wrote romeo and juliet?"
    taught, judged = teach([*make_data(5000), *make_data(1, question=asked)])

    assert "Who wrote Romeo and Juliet?" in teach(make_data(5000))[0]
    assert "Who wrote Romeo and Juliet?" not in [*taught, *judged]


def test_the_same_seed_teaches_the_same_questions() -> None:
    """A job run twice has the same rows; another seed takes others."""
    assert teach(make_data(101), seed=1) == teach(make_data(101), seed=1)
    assert teach(make_data(101), seed=1)[0] != teach(make_data(101), seed=2)[0]
