"""Reads FAQ data of one JSON object a line, `{"question", "answer", "wordings"?, "tags"?}`, in bounded memory.

The fields are checked by `make_entry` alone, for `faq_table.py` too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from adaptory.core.prompting import Message, Renderer
from trainer_svc.bots.entry import RowKey
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules, fold_text, read_text, read_texts

FAQ_FIELDS = ("question", "answer", "wordings", "tags")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class FaqEntry:
    """One fact: what it is asked by, `question` first, and its answer."""

    questions: tuple[str, ...]
    answer: str

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """The questions: one asked twice may be answered in two ways. Another number in it makes it another question."""
        folded = map(fold_text, self.questions)
        return tuple(RowKey(question, " ".join(_NUMBER.findall(question))) for question in folded)

    @property
    def texts(self) -> tuple[str, ...]:
        """Questions and answer."""
        return (*self.questions, self.answer)

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """Each wording with the answer."""
        return tuple((Message("user", question), Message("assistant", self.answer)) for question in self.questions)

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the length of each row in tokens."""
        return (len(renderer.render_row(messages).ids) for messages in self.conversations)


def read_faq_lines(file: BinaryIO, limits: DataLimits, problems: ProblemSink) -> Iterator[tuple[int, FaqEntry]]:
    """Yield each entry with its line, from 1; a line that cannot be used is told to `problems` and left out."""
    rules = FieldRules(FAQ_FIELDS, problems)
    for line, raw in read_filled_lines(file, limits.max_line_bytes):
        try:
            fields = parse_json_line(raw, limits)
            rules.check(fields.keys(), line)
            yield line, make_entry(fields, limits)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)


def make_entry(fields: Mapping[str, object], limits: DataLimits) -> FaqEntry:
    """Return the entry that these fields are. Raises LineProblem."""
    question = read_text(fields, "question", limits.max_question_chars)
    answer = read_text(fields, "answer", limits.max_answer_chars)
    wordings = read_texts(fields, "wordings", limits.max_wordings, limits.max_question_chars)
    read_texts(fields, "tags", limits.max_tags, limits.max_question_chars)
    return FaqEntry(tuple(dict.fromkeys((question, *wordings))), answer)
