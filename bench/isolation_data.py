"""Companies that are asked the same questions and answer them differently, read from a file of rows."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from adaptory.core.errors import InvalidRequest

_FIELDS = ("entity", "question", "answer")
_MIN_TENANTS = 2


@dataclass(frozen=True, slots=True)
class Entity:
    """A company, and what it answers to each of its questions."""

    name: str
    answers: dict[str, str] = field(default_factory=dict)


def read_entities(file: Path) -> list[Entity]:
    """Return the entities of a file of JSON lines with `entity`, `question` and `answer`; rows that lack one are left out.

    Of two answers to one question the first counts. Raises InvalidRequest for a file that cannot be read so.
    """
    entities: dict[str, Entity] = {}
    for row in _read_rows(file):
        name, question, answer = (row.get(name) for name in _FIELDS)
        if name and question and answer:
            entities.setdefault(name, Entity(name)).answers.setdefault(question, answer)
    return list(entities.values())


def choose_entities(entities: Sequence[Entity], num: int) -> list[Entity]:
    """Return those who share the most questions: the two that share the most, then whoever adds most to what is asked of two or more.

    Raises InvalidRequest where there are fewer entities, or none share a question.
    """
    if not _MIN_TENANTS <= num <= len(entities):
        sentence = f"is {num}; the file has {len(entities)} entities, and it takes {_MIN_TENANTS} to share a question"
        raise InvalidRequest.of_field("--tenants", sentence)
    chosen = list(max(combinations(entities, 2), key=count_shared))
    while len(chosen) < num:
        chosen.append(max((one for one in entities if one not in chosen), key=lambda one: count_shared((*chosen, one))))
    if not count_shared(chosen):
        raise InvalidRequest.of_field("--data", "has no question that two entities answer")
    return chosen


def count_shared(entities: Iterable[Entity]) -> int:
    """Return how many questions are asked in all, if each entity is asked those of its own that another has, too."""
    asked = Counter(question for entity in entities for question in entity.answers)
    return sum(num for num in asked.values() if num > 1)


def list_shared(entity: Entity, entities: Sequence[Entity]) -> list[str]:
    """Return the entity's questions that another has, too."""
    others = [other for other in entities if other is not entity]
    return [question for question in entity.answers if any(question in other.answers for other in others)]


def write_training_file(entity: Entity, file: Path) -> None:
    """Write all the entity's answers as an FAQ bot learns them."""
    lines = (json.dumps({"question": question, "answer": answer}) for question, answer in entity.answers.items())
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read_rows(file: Path) -> Iterator[dict[str, str | None]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest.of_field("--data", f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidRequest.of_field("--data", f"line {number} of {file} is no JSON") from error
        if not (isinstance(row, dict) and all(isinstance(row.get(name), str | None) for name in _FIELDS)):
            raise InvalidRequest.of_field("--data", f"line {number} of {file} has no texts {', '.join(_FIELDS)}")
        yield row
