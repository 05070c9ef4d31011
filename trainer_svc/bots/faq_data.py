"""Reads FAQ data: one JSON object a line, `{"question", "answer", "wordings"?, "tags"?}`, in bounded memory.

A line is parsed by `parse_entry` alone, both when a dataset is judged and when a job makes rows of it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from adaptory.core.strict_json import parse_object
from trainer_svc.bots.report import DatasetReport, ProblemLog

_FIELDS = frozenset({"question", "answer", "wordings", "tags"})
_MIN_ROWS = 2


@dataclass(frozen=True, slots=True)
class FaqLimits:
    """How much FAQ data may be."""

    max_line_bytes: int = 256 * 1024
    max_entries: int = 100_000
    max_wordings: int = 64
    max_tags: int = 32
    max_question_chars: int = 4_000
    max_answer_chars: int = 16_000


@dataclass(frozen=True, slots=True)
class FaqEntry:
    """One fact: what it is asked by, `question` first, and its answer."""

    questions: tuple[str, ...]
    answer: str


class LineProblem(Exception):
    """One line cannot be used; the text never quotes it."""

    def __init__(self, reason: str, description: str) -> None:
        """Say which rule the line breaks, by a stable reason and a sentence."""
        super().__init__(description)
        self.reason = reason
        self.description = description


def judge_faq(file: BinaryIO, limits: FaqLimits) -> DatasetReport:
    """Read a whole file and report what it holds and every line that is wrong; reading stops at the most entries taken."""
    problems = ProblemLog()
    seen: set[bytes] = set()
    num_entries = num_rows = 0
    for line, raw in read_lines(file, limits):
        if num_entries >= limits.max_entries:
            problems.add_error(
                line,
                "TOO_MANY_ENTRIES",
                f"more than {limits.max_entries} entries; split the data over several datasets",
            )
            break
        try:
            entry = parse_entry(raw, limits)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)
            continue
        num_entries += 1
        num_rows += len(entry.questions)
        for question in entry.questions:
            _warn_of_duplicate(question, line, seen, problems)
    _check_whole(num_entries, num_rows, problems)
    return problems.make_report(num_entries=num_entries, num_rows=num_rows)


def read_entries(file: BinaryIO, limits: FaqLimits) -> Iterator[FaqEntry]:
    """Yield the entries of a file that `judge_faq` found usable. Raises LineProblem where it is not."""
    for _, raw in read_lines(file, limits):
        yield parse_entry(raw, limits)


def read_lines(file: BinaryIO, limits: FaqLimits) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank with its number, from 1. Of a line over the limit only the first bytes, a byte too many."""
    number = 0
    while raw := file.readline(limits.max_line_bytes + 1):
        number += 1
        rest = raw
        while len(rest) > limits.max_line_bytes and not rest.endswith(b"\n"):
            rest = file.readline(limits.max_line_bytes + 1)
        if raw.strip():
            yield number, raw


def parse_entry(raw: bytes, limits: FaqLimits) -> FaqEntry:
    """Parse one line. Raises LineProblem."""
    if len(raw) > limits.max_line_bytes:
        raise LineProblem("LINE_TOO_LONG", f"the line has more than {limits.max_line_bytes} bytes; shorten its texts")
    fields = _parse_json(raw)
    if unknown := len(fields.keys() - _FIELDS):
        raise LineProblem(
            "UNKNOWN_FIELD", f"{unknown} fields are not known; known are question, answer, wordings, tags"
        )
    question = _read_text(fields, "question", limits.max_question_chars)
    answer = _read_text(fields, "answer", limits.max_answer_chars)
    wordings = _read_texts(fields, "wordings", limits.max_wordings, limits.max_question_chars)
    _read_texts(fields, "tags", limits.max_tags, limits.max_question_chars)
    return FaqEntry(tuple(dict.fromkeys((question, *wordings))), answer)


def _parse_json(raw: bytes) -> dict[str, object]:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        sentence = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
        raise LineProblem("INVALID_UTF8", sentence) from error
    try:
        return parse_object(raw)
    except ValueError as error:
        # The parser's own text may quote the line.
        sentence = "the line is not one JSON object with each key once; write one object a line"
        raise LineProblem("INVALID_JSON", sentence) from error


def _read_text(fields: dict[str, object], name: str, max_chars: int) -> str:
    if name not in fields:
        raise LineProblem("FIELD_MISSING", f"`{name}` is missing; give it a text")
    return _check_text(fields[name], name, max_chars)


def _read_texts(fields: dict[str, object], name: str, max_texts: int, max_chars: int) -> list[str]:
    texts = fields.get(name, [])
    if not isinstance(texts, list):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a list of texts")
    if len(texts) > max_texts:
        raise LineProblem("TOO_MANY_TEXTS", f"`{name}` has {len(texts)} texts; at most {max_texts} are taken")
    return [_check_text(text, name, max_chars) for text in texts]


def _check_text(value: object, name: str, max_chars: int) -> str:
    if not isinstance(value, str):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a text")
    text = value.strip()
    if not text:
        raise LineProblem("FIELD_EMPTY", f"`{name}` is empty; give it a text or leave the line out")
    if len(text) > max_chars:
        raise LineProblem("TEXT_TOO_LONG", f"`{name}` has {len(text)} characters; at most {max_chars} are taken")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise LineProblem("INVALID_TEXT", f"`{name}` holds half of a surrogate pair; write the character whole")
    return text


def _warn_of_duplicate(question: str, line: int, seen: set[bytes], problems: ProblemLog) -> None:
    # Digests, not texts: a set of 100,000 questions stays at a few megabytes.
    digest = hashlib.blake2b(" ".join(question.lower().split()).encode(), digest_size=16).digest()
    if digest in seen:
        problems.add_warning(
            line,
            "DUPLICATE_QUESTION",
            "a question of the line was asked by an earlier line, too; the answers may contradict",
        )
    seen.add(digest)


def _check_whole(num_entries: int, num_rows: int, problems: ProblemLog) -> None:
    if num_entries == 0:
        problems.add_error(0, "EMPTY", "the file holds no entry; write one JSON object a line")
    elif num_rows < _MIN_ROWS:
        sentence = f"the file makes {num_rows} row; at least {_MIN_ROWS} are needed, one to learn and one to judge by"
        problems.add_error(0, "TOO_FEW_ROWS", sentence)
