"""A task with a test: what a function is asked for, how it was solved, and Python that fails unless the solution is right.

The fields are those of HumanEval's sets (Chen et al. 2021, arXiv 2107.03374, section 2.2) and of those made alike, such as MBPP's of
mxeval: `prompt`, `canonical_solution`, `test`, and `entry_point`, the name that a test's `check` is called with. `suffix` is what
stands behind the solution. Only Python is run, so a `language` that is named must be Python.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adaptory.core.prompting import Renderer
from trainer_svc.bots.code_file import CodeFile, CodeLimits
from trainer_svc.bots.entry import RowKey
from trainer_svc.bots.problem import LineProblem
from trainer_svc.judging.code import parses

TASK_FIELDS = ("prompt", "canonical_solution", "suffix", "test", "entry_point", "language")
# By one of these a line is a task, and no file.
_MARKS = frozenset({"prompt", "canonical_solution", "test", "entry_point"})
_PYTHON = frozenset({"python", "python3", "py"})
_CHECK = re.compile(r"^def check\(", re.MULTILINE)
_CALL = re.compile(r"^(?!def ).*\bcheck\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CodeTask:
    """Texts are as they are, blanks included; `test` is a whole program behind prompt, solution and suffix, `check` called."""

    prompt: str
    solution: str
    suffix: str
    test: str

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """One: a task is held out as a whole, and two with one text are duplicates."""
        return (RowKey(self._text),)

    @property
    def texts(self) -> tuple[str, ...]:
        """The solved task, and its test."""
        return (self._text, self.test)

    @property
    def _text(self) -> str:
        return self.prompt + self.solution + self.suffix

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the tokens of the solved task; its test is no part of a row."""
        yield renderer.count_tokens(self._text)

    def to_file(self) -> CodeFile:
        """Return the solved task as a source file."""
        return CodeFile("task.py", self._text)


def is_task(fields: Mapping[str, object]) -> bool:
    """Tell whether the fields of a line are those of a task."""
    return not _MARKS.isdisjoint(fields)


def make_task(fields: Mapping[str, object], limits: CodeLimits) -> CodeTask:
    """Return the task that these fields are. Raises LineProblem."""
    if "content" in fields:
        sentence = (
            "the line has `content`, as a file has, and fields of a task with a test; write them on lines of their own"
        )
        raise LineProblem("FIELDS_MIXED", sentence)
    _require_python(fields)
    prompt, solution = (read_code(fields, name, limits.max_file_bytes) for name in ("prompt", "canonical_solution"))
    suffix = read_code({"suffix": "", **fields}, "suffix", limits.max_file_bytes)
    test = _read_test(fields, limits)
    for name, text in (("prompt", prompt), ("canonical_solution", solution)):
        if not text.strip():
            raise LineProblem("FIELD_EMPTY", f"`{name}` is empty; give it a text or leave the line out")
    return CodeTask(prompt, solution, suffix, test)


def read_code(fields: Mapping[str, object], name: str, max_bytes: int) -> str:
    """Return a text as it is: the blanks around code are code. Raises LineProblem."""
    if name not in fields:
        raise LineProblem("FIELD_MISSING", f"`{name}` is missing; give it a text")
    text = fields[name]
    if not isinstance(text, str):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a text")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise LineProblem("INVALID_TEXT", f"`{name}` holds half of a surrogate pair; write the character whole")
    size_bytes = len(text.encode("utf-8"))
    if size_bytes > max_bytes:
        sentence = f"`{name}` has {size_bytes} bytes; at most {max_bytes} are taken: leave the line out"
        raise LineProblem("TEXT_TOO_LONG", sentence)
    return text


def _require_python(fields: Mapping[str, object]) -> None:
    language = fields.get("language", "python")
    if not isinstance(language, str):
        raise LineProblem("FIELD_TYPE", "`language` is not a text")
    if language.strip().casefold() not in _PYTHON:
        raise LineProblem(
            "LANGUAGE_NOT_RUN", "`language` is not Python, and only tests in Python are run; leave the line out"
        )


def _read_test(fields: Mapping[str, object], limits: CodeLimits) -> str:
    """Return the test as a program that fails by itself: one that only defines `check` is called with `entry_point`."""
    test = read_code(fields, "test", limits.max_test_bytes)
    if not test.strip() or not parses(test):
        raise LineProblem(
            "TEST_UNUSABLE", "`test` is empty or does not parse as Python; write a program that fails by raising"
        )
    if "entry_point" not in fields:
        if _CHECK.search(test) and not _CALL.search(test):
            sentence = "`test` defines check() and nothing calls it; name the function to check in `entry_point`"
            raise LineProblem("FIELD_MISSING", sentence)
        return test
    name = fields["entry_point"]
    if not isinstance(name, str) or not name.isidentifier():
        raise LineProblem("FIELD_TYPE", "`entry_point` is not the name of a function")
    return f"{test}\n\ncheck({name})" if _CHECK.search(test) else test
