"""Asks a bot its held-out questions over streams, and judges the answers by the facts they hold."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adaptory.client import AdaptoryClient
from adaptory.serve.v1.generation_pb2 import Finish, GenerationOptions
from examples.demo.companies import Question

NUM_STREAMS = 8
_OPTIONS = GenerationOptions(max_output_tokens=48, temperature=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bot said, which version said it, and the seconds from the question to the first word, as the asker saw them."""

    text: str
    version: str
    first_token_s: float


async def ask_all(
    client: AdaptoryClient, bot: str, questions: Sequence[Question], on_answer: Callable[[], None]
) -> list[Answer]:
    """Return the answer to each question; NUM_STREAMS are asked at a time."""
    places = asyncio.Semaphore(NUM_STREAMS)

    async def ask_in_turn(question: Question) -> Answer:
        async with places:
            answer = await ask(client, bot, question.question)
        on_answer()
        return answer

    return await asyncio.gather(*(ask_in_turn(question) for question in questions))


async def ask(client: AdaptoryClient, bot: str, question: str) -> Answer:
    """Ask one question and read the answer to its end."""
    begun, first_token_s = time.perf_counter(), None
    pieces: list[str] = []
    finish = Finish()
    async for piece in client.chat.stream(bot, question, options=_OPTIONS):
        if first_token_s is None:
            first_token_s = time.perf_counter() - begun
        pieces.append(piece.text)
        finish = piece.finish
    return Answer("".join(pieces).strip(), finish.version, first_token_s or 0.0)


def measure_recall(questions: Sequence[Question], answers: Sequence[Answer]) -> float:
    """Return the share of answers that hold their question's fact, whatever the case and the white space."""
    right = [holds(answer.text, question.fact) for question, answer in zip(questions, answers, strict=True)]
    return sum(right) / len(right)


def median_first_token_s(answers: Sequence[Answer]) -> float:
    """Return the median of the seconds to the first word."""
    return statistics.median(answer.first_token_s for answer in answers)


def find_leaks(answers: Sequence[Answer], foreign: Sequence[Question]) -> list[str]:
    """Return a sentence for every answer that holds a fact of another company's."""
    return [
        f"{answer.version} said {question.fact!r}, which is another tenant's: {answer.text}"
        for answer in answers
        for question in foreign
        if holds(answer.text, question.fact)
    ]


def holds(text: str, fact: str) -> bool:
    """Tell whether a text holds a fact, whatever the case and the white space."""
    return _normalise(fact) in _normalise(text)


def _normalise(text: str) -> str:
    return " ".join(text.split()).casefold()
