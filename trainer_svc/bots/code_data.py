"""Reads code of one JSON object a line, `{"path", "content"}`, in bounded memory.

Whoever writes such lines has chosen the files: a `.gitignore` among them is a file like any other. Generated and binary ones are left
out all the same, and counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from trainer_svc.bots.code_file import CodeFile, CodeLimits, check_path
from trainer_svc.bots.code_filter import judge_content, judge_path
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules

CODE_FIELDS = ("path", "content")
# JSON writes most characters of code as they are, a line break or a quote as two, and a control character as six.
_ESCAPED = 3


def read_code_lines(
    file: BinaryIO, limits: DataLimits, problems: ProblemSink, code_limits: CodeLimits | None = None
) -> Iterator[tuple[int, CodeFile]]:
    """Yield each file with its line, from 1; what cannot be used is told to `problems`, and what is no source is left out."""
    code_limits = code_limits or CodeLimits()
    # A whole file stands on a line here.
    limits = replace(limits, max_line_bytes=max(limits.max_line_bytes, _ESCAPED * code_limits.max_file_bytes))
    rules = FieldRules(CODE_FIELDS, problems)
    for line, raw in read_filled_lines(file, limits.max_line_bytes):
        try:
            fields = parse_json_line(raw, limits)
            rules.check(fields.keys(), line)
            found = make_file(fields, code_limits)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)
            continue
        if left_out := judge_path(found.path) or judge_content(found.content):
            problems.add_warning(line, left_out.reason, left_out.description)
        else:
            yield line, found


def make_file(fields: Mapping[str, object], limits: CodeLimits) -> CodeFile:
    """Return the file that these fields are. Raises LineProblem."""
    path, content = (_read(fields, name) for name in CODE_FIELDS)
    size_bytes = len(content.encode("utf-8"))
    if size_bytes > limits.max_file_bytes:
        sentence = f"`content` has {size_bytes} bytes; at most {limits.max_file_bytes} are taken: leave the file out"
        raise LineProblem("TEXT_TOO_LONG", sentence)
    return CodeFile(check_path(path), content.removeprefix("\ufeff"))


def _read(fields: Mapping[str, object], name: str) -> str:
    """Return a text as it is: the blanks around code are code."""
    if name not in fields:
        raise LineProblem("FIELD_MISSING", f"`{name}` is missing; give it a text")
    text = fields[name]
    if not isinstance(text, str):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a text")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise LineProblem("INVALID_TEXT", f"`{name}` holds half of a surrogate pair; write the character whole")
    return text
