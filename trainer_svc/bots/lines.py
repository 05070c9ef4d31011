"""Reads lines, and the one JSON object on each, that nobody vouches for: strict UTF-8, bounded bytes, bounded depth."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from adaptory.core.strict_json import parse_object
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import LineProblem

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"


def read_lines(file: BinaryIO, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, from 1, and without the file's byte order mark.

    Of a line over the limit only the first bytes come, at least one too many.
    """
    number = 0
    while raw := file.readline(max_line_bytes + 1 + len(_BYTE_ORDER_MARK)):
        number += 1
        rest = raw
        while len(rest) > max_line_bytes and not rest.endswith(b"\n"):
            rest = file.readline(max_line_bytes + 1)
        yield number, raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw


def read_filled_lines(file: BinaryIO, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, as `read_lines` does."""
    return ((number, raw) for number, raw in read_lines(file, max_line_bytes) if raw.strip())


def decode_line(raw: bytes, max_line_bytes: int) -> str:
    """Return the text of a line or of a record over several lines. Raises LineProblem: LINE_TOO_LONG, INVALID_UTF8."""
    if len(raw) > max_line_bytes:
        raise LineProblem("LINE_TOO_LONG", f"the line has more than {max_line_bytes} bytes; shorten its texts")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        sentence = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
        raise LineProblem("INVALID_UTF8", sentence) from error


def parse_json_line(raw: bytes, limits: DataLimits) -> dict[str, object]:
    """Return the one JSON object of a line. Raises LineProblem: LINE_TOO_LONG, INVALID_UTF8, INVALID_JSON."""
    decode_line(raw, limits.max_line_bytes)
    if _measure_depth(raw) > limits.max_json_depth:
        raise LineProblem("INVALID_JSON", f"the line is nested deeper than {limits.max_json_depth}; write flat objects")
    try:
        return parse_object(raw)
    except ValueError as error:
        # The parser's own text may quote the line.
        sentence = "the line is not one JSON object with each key once; write one object a line"
        raise LineProblem("INVALID_JSON", sentence) from error


def _measure_depth(raw: bytes) -> int:
    """Return how deep brackets outside texts are nested: found before the parser would recurse."""
    depth = deepest = 0
    for byte in _JSON_TEXT.sub(b"", raw):
        if byte in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif byte in _CLOSING:
            depth -= 1
    return deepest
