"""Reads a source tree from a `.tar` or `.tar.gz`, in bounded memory, and unpacks nothing to disk.

Twice: an ignore file may come behind what it rules. A file that can be read only once is copied aside first, as it is. What is no
source is left out and counted, and so are links and devices, whose targets are never read. A path that leads outside the tree refuses
the archive.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from trainer_svc.bots.archive import Member, read_members
from trainer_svc.bots.code_file import CodeFile, CodeLimits, check_path
from trainer_svc.bots.code_filter import LeftOut, judge_content, judge_path
from trainer_svc.bots.ignore_rules import IGNORE_FILE, IgnoreRules
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import LineProblem, ProblemSink


def read_code_tree(
    file: BinaryIO,
    limits: DataLimits,  # noqa: ARG001 - every reader's signature; its caps are those of lines
    problems: ProblemSink,
    code_limits: CodeLimits | None = None,
) -> Iterator[tuple[int, CodeFile]]:
    """Yield each source file with the number of its member, from 1; what cannot be used or is no source is told to `problems`."""
    code_limits = code_limits or CodeLimits()
    number = 0
    try:
        with _opened_twice(file) as archive:
            rules = _read_rules(archive, code_limits, problems)
            for member in read_members(archive, code_limits):
                number = member.number
                found = _read_member(member, rules, code_limits, problems)
                if isinstance(found, LeftOut):
                    problems.add_warning(number, found.reason, found.description)
                elif found is not None:
                    yield number, found
    except LineProblem as problem:
        problems.add_error(number, problem.reason, problem.description)


@contextmanager
def _opened_twice(file: BinaryIO) -> Iterator[BinaryIO]:
    """Give a file that can go back to its beginning: this one, or a copy that is gone with the block."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        yield copy


def _read_rules(file: BinaryIO, limits: CodeLimits, problems: ProblemSink) -> IgnoreRules:
    rules = IgnoreRules()
    for member in read_members(file, limits):
        if member.path.rpartition("/")[2] != IGNORE_FILE or not member.is_file:
            continue
        try:
            _add_rules(rules, member, limits)
        except LineProblem as problem:
            problems.add_warning(member.number, problem.reason, problem.description)
    return rules


def _add_rules(rules: IgnoreRules, member: Member, limits: CodeLimits) -> None:
    if member.content is None or len(member.content) > limits.max_ignore_file_bytes:
        sentence = f"a {IGNORE_FILE} has more than {limits.max_ignore_file_bytes} bytes; it is not followed"
        raise LineProblem("IGNORE_FILE", sentence)
    if len(rules) == limits.max_ignore_files:
        raise LineProblem("IGNORE_FILE", f"of {IGNORE_FILE}s, {limits.max_ignore_files} are followed; not this one")
    folder = check_path(member.path).rpartition("/")[0]
    rules.add(folder, member.content.decode("utf-8", errors="replace"))


def _read_member(
    member: Member, rules: IgnoreRules, limits: CodeLimits, problems: ProblemSink
) -> CodeFile | LeftOut | None:
    if member.is_folder:
        return None
    try:
        path = check_path(member.path)
    except LineProblem as problem:
        problems.add_error(member.number, problem.reason, problem.description)
        return None
    return _leave_out(member, path, rules, limits) or _read_content(path, member.content or b"")


def _leave_out(member: Member, path: str, rules: IgnoreRules, limits: CodeLimits) -> LeftOut | None:
    if not member.is_file:
        return LeftOut("FILE_LINKED", "the member is a link, a device or a sparse file; left out")
    if rules.ignores(path):
        return LeftOut("FILE_IGNORED", f"a {IGNORE_FILE} of the tree names the file; left out")
    if left_out := judge_path(path):
        return left_out
    if member.content is None:
        sentence = f"the file has {member.size_bytes} bytes; at most {limits.max_file_bytes} are read; left out"
        return LeftOut("FILE_TOO_LARGE", sentence)
    return None


def _read_content(path: str, raw: bytes) -> CodeFile | LeftOut:
    if b"\0" in raw:
        return LeftOut("FILE_BINARY", "the file holds NUL bytes; left out as binary")
    try:
        content = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return LeftOut("FILE_NOT_UTF8", f"byte {error.start + 1} of the file is not UTF-8; left out")
    return judge_content(content) or CodeFile(path, content)
