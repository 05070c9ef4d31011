"""Whose answer an answer is: the tenant's own, nobody's, or another tenant's, as `isolation.py` tells it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bench.isolation_data import Entity
from trainer_svc.judging.facts import find_facts, holds_facts
from trainer_svc.judging.overlap import score_token_f1
from trainer_svc.judging.text import normalise

_RIGHT_F1 = 0.8


class Verdict(enum.StrEnum):
    """Whose answer an answer is."""

    RIGHT = "right"
    WRONG = "wrong"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Told:
    """What a tenant's bot said to a question: alone on the server, and amid those of all others."""

    entity: str
    question: str
    alone: str
    mixed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How a tenant's answers in mixed batches are judged.

    `foreign_alone` of the foreign ones are to the byte what the bot says alone, when nobody else's request is in the engine: an error
    of what it learned. `differing` counts the answers that are not to the byte what the bot said alone.
    """

    entity: str
    asked: int
    right: int
    wrong: int
    foreign: int
    foreign_alone: int
    differing: int


def judge(answer: str, question: str, own: Entity, entities: Sequence[Entity]) -> Verdict:
    """Return whose answer this is, of these entities."""
    expected = own.answers[question]
    others = [one.answers[question] for one in entities if one is not own and question in one.answers]
    if any(_is_nearer(answer, other, expected, question) for other in others):
        return Verdict.FOREIGN
    facts = find_facts(expected, question)
    is_right = score_token_f1(answer, expected) >= _RIGHT_F1 or (bool(facts) and holds_facts(answer, facts))
    return Verdict.RIGHT if is_right else Verdict.WRONG


def tally(told: Sequence[Told], own: Entity, entities: Sequence[Entity]) -> Tally:
    """Judge what one tenant's bot said in mixed batches."""
    said = [(one, answer) for one in told for answer in one.mixed]
    verdicts = [judge(answer, one.question, own, entities) for one, answer in said]
    return Tally(
        entity=own.name,
        asked=len(said),
        right=verdicts.count(Verdict.RIGHT),
        wrong=verdicts.count(Verdict.WRONG),
        foreign=verdicts.count(Verdict.FOREIGN),
        foreign_alone=sum(
            verdict is Verdict.FOREIGN and answer == one.alone
            for (one, answer), verdict in zip(said, verdicts, strict=True)
        ),
        differing=sum(answer != one.alone for one, answer in said),
    )


def _is_nearer(answer: str, other: str, expected: str, question: str) -> bool:
    if normalise(other) == normalise(expected):
        return False
    if score_token_f1(answer, other) > score_token_f1(answer, expected):
        return True
    facts = find_facts(expected, question)
    foreign_facts = find_facts(other, question) - facts
    return bool(foreign_facts) and holds_facts(answer, foreign_facts) and not holds_facts(answer, facts)
