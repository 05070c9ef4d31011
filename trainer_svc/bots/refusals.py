"""How a bot learns to refuse what its data does not answer: unrelated questions, each answered by the bot's own refusal.

Questions come with the product, in Japanese for data that is mostly Japanese, else in English; every fourth is kept for judging, and
so are all that the bot names itself: they are near its data, and a bot that had learned them by heart would show nothing. Data in a
third language is taught by English questions and judged by them: what is refused in its own language its `unanswerable` questions
measure alone. What this does not teach is to tell questions about the tenant that its data answers from questions about it that the
data does not answer: of 30 such questions a bot refused 5 (docs/measurements.md). The bot's own questions measure it, by its answers
alone: their loss does not choose the adapter.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from random import Random

from adaptory.core.prompting import Message
from trainer_svc.bots.row import Row
from trainer_svc.bots.scripts import is_japanese

# Enough that a refusal is learned, few enough that it does not become the likeliest answer.
REFUSAL_SHARE = 0.15
_JUDGED_EVERY = 4
_ENGLISH, _JAPANESE = "general_questions.txt", "general_questions_ja.txt"


@dataclass(frozen=True, slots=True)
class RefusalLesson:
    """What a bot says where its data has no answer, and questions it must say it to; an empty text teaches nothing."""

    text: str = ""
    unanswerable: tuple[str, ...] = ()


def teach_refusal(rows: Iterable[Row], lesson: RefusalLesson, *, system_prompt: str, seed: int) -> Iterator[Row]:
    """Yield the rows and, behind them, those that teach and judge the refusal; the same arguments yield the same ones.

    Trained on are REFUSAL_SHARE as many as there are trained rows, while there are questions; none that the data asks itself. They
    are in the language of the most rows.
    """
    num_trained = 0
    asked: set[str] = set()
    languages: Counter[str] = Counter()
    for row in rows:
        num_trained += not row.is_held_out
        if lesson.text:
            asked |= {_normalise(turn.content) for turn in row.messages if turn.role == "user"}
            languages[_choose_questions(row)] += 1
        yield row
    if lesson.text:
        [(file, _)] = languages.most_common(1) or [(_ENGLISH, 0)]
        questions = [question for question in _read_questions(file) if _normalise(question) not in asked]
        yield from _make_refusals(lesson, questions, system_prompt, round(REFUSAL_SHARE * num_trained), seed)


def _make_refusals(
    lesson: RefusalLesson, questions: list[str], system_prompt: str, num_wanted: int, seed: int
) -> Iterator[Row]:
    judged = questions[::_JUDGED_EVERY]
    taught = [question for place, question in enumerate(questions) if place % _JUDGED_EVERY]
    Random(seed).shuffle(taught)  # noqa: S311 - to be repeatable, not secret
    opening = (Message("system", system_prompt),) if system_prompt else ()

    def make_row(question: str, *, is_held_out: bool, is_measured: bool = True) -> Row:
        return Row((*opening, Message("user", question), Message("assistant", lesson.text)), is_held_out, is_measured)

    yield from (make_row(question, is_held_out=False) for question in islice(taught, max(1, num_wanted)))
    yield from (make_row(question, is_held_out=True) for question in judged)
    yield from (make_row(question, is_held_out=True, is_measured=False) for question in lesson.unanswerable)


def _choose_questions(row: Row) -> str:
    """Return the file of questions in the language of a row: of its question and answer, since either may be a name alone."""
    text = " ".join(turn.content for turn in row.messages if turn.role != "system")
    return _JAPANESE if is_japanese(text) else _ENGLISH


def _read_questions(file: str) -> list[str]:
    return (files("trainer_svc.bots") / file).read_text(encoding="utf-8").splitlines()


def _normalise(question: str) -> str:
    return " ".join(question.lower().split())
