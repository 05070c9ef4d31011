"""Reads code of one JSON object a line, `{"path", "content"}` or a task with its test, in bounded memory.

Whoever writes such lines has chosen the files: a `.gitignore` among them is a file like any other. Generated and binary ones are left
out all the same, and counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from trainer_svc.bots.code_file import CodeFile, CodeLimits, check_path
from trainer_svc.bots.code_filter import LeftOut, judge_content, judge_path
from trainer_svc.bots.code_task import TASK_FIELDS, CodeTask, is_task, make_task, read_code
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules

CODE_FIELDS = ("path", "content")
# JSON writes most characters of code as they are, a line break or a quote as two, and a control character as six.
_ESCAPED = 3


def read_code_lines(
    file: BinaryIO, limits: DataLimits, problems: ProblemSink, code_limits: CodeLimits | None = None
) -> Iterator[tuple[int, CodeFile | CodeTask]]:
    """Yield each file or task with its line, from 1; what cannot be used is told to `problems`, and what is no source is left out."""
    code_limits = code_limits or CodeLimits()
    # A whole file stands on a line here.
    limits = replace(limits, max_line_bytes=max(limits.max_line_bytes, _ESCAPED * code_limits.max_file_bytes))
    rules = FieldRules((*CODE_FIELDS, *TASK_FIELDS), problems)
    num_tests = 0
    for line, raw in read_filled_lines(file, limits.max_line_bytes):
        try:
            fields = parse_json_line(raw, limits)
            rules.check(fields.keys(), line)
            found = make_task(fields, code_limits) if is_task(fields) else make_file(fields, code_limits)
            num_tests += isinstance(found, CodeTask)
            _require_room(num_tests, code_limits.max_tests)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)
            continue
        if left_out := _leave_out(found):
            problems.add_warning(line, left_out.reason, left_out.description)
        else:
            yield line, found


def make_file(fields: Mapping[str, object], limits: CodeLimits) -> CodeFile:
    """Return the file that these fields are. Raises LineProblem."""
    path = read_code(fields, "path", limits.max_file_bytes)
    content = read_code(fields, "content", limits.max_file_bytes)
    return CodeFile(check_path(path), content.removeprefix("\ufeff"))


def _leave_out(found: CodeFile | CodeTask) -> LeftOut | None:
    """Return why a file is no source; a task is always one."""
    return judge_path(found.path) or judge_content(found.content) if isinstance(found, CodeFile) else None


def _require_room(num_tests: int, max_tests: int) -> None:
    if num_tests > max_tests:
        sentence = f"more than {max_tests} tasks with tests; split the data over several datasets"
        raise LineProblem("TOO_MANY_TESTS", sentence)
