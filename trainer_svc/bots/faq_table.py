"""Reads FAQ data as a table: CSV or TSV with a header line `question,answer[,wordings][,tags]`, quoted as RFC 4180 says.

A record may span lines. Several wordings or tags of a cell are separated by `|`. A record is cut out of the bytes here, so that a
quote that is never closed costs one record of bounded size and not the rest of the file in memory; the library parses it then.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from trainer_svc.bots.faq_data import FAQ_FIELDS, FaqEntry, make_entry
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import decode_line, read_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules

_REQUIRED = ("question", "answer")
_LISTS = ("wordings", "tags")
_SEPARATOR = "|"
_QUOTE = b'"'


def read_faq_csv(file: BinaryIO, limits: DataLimits, problems: ProblemSink) -> Iterator[tuple[int, FaqEntry]]:
    """Yield each entry with the line its record begins on, from 1; what cannot be used is told to `problems` and left out."""
    return _read_table(file, ",", limits, problems)


def read_faq_tsv(file: BinaryIO, limits: DataLimits, problems: ProblemSink) -> Iterator[tuple[int, FaqEntry]]:
    """Do as `read_faq_csv`, for columns separated by tabs."""
    return _read_table(file, "\t", limits, problems)


def _read_table(
    file: BinaryIO, delimiter: str, limits: DataLimits, problems: ProblemSink
) -> Iterator[tuple[int, FaqEntry]]:
    header: list[str] = []
    for line, raw in _cut_records(file, delimiter, limits.max_line_bytes):
        try:
            cells = _parse_record(raw, delimiter, limits)
            if header:
                yield line, make_entry(_name_cells(header, cells), limits)
            else:
                header = _read_header(cells, delimiter)
                FieldRules(FAQ_FIELDS, problems).check(header, line)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)
            if not header:
                return  # without columns nothing behind can be read


def _cut_records(file: BinaryIO, delimiter: str, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield each record that is not blank with the line it begins on; one over the limit comes cut, a byte too long at least."""
    separator = delimiter.encode()
    begin, parts, size, is_open = 0, list[bytes](), 0, False
    for line, raw in read_lines(file, max_bytes):
        begin = begin if parts else line
        parts.append(raw)
        size += len(raw)
        is_open = _is_open_behind(raw, separator, is_open=is_open)
        if is_open and size <= max_bytes:
            continue
        record = b"".join(parts)
        if record.strip():
            yield begin, record
        # A record cut at the limit ends there: the next line is taken for the beginning of another.
        parts, size, is_open = [], 0, False
    if parts:
        yield begin, b"".join(parts)


def _is_open_behind(line: bytes, separator: bytes, *, is_open: bool) -> bool:
    """Tell whether a quoted cell goes on behind a line, which began inside one if `is_open`; only a cell's first quote opens it."""
    place = 0
    while True:
        if not is_open:
            if line.startswith(_QUOTE, place):
                is_open, place = True, place + 1
            else:
                place = line.find(separator, place) + 1
                if place == 0:
                    return False
        else:
            place = line.find(_QUOTE, place)
            if place < 0:
                return True
            if line.startswith(_QUOTE, place + 1):
                place += 2
                continue
            is_open, place = False, line.find(separator, place) + 1
            if place == 0:
                return False


def _parse_record(raw: bytes, delimiter: str, limits: DataLimits) -> list[str]:
    text = decode_line(raw, limits.max_line_bytes)
    try:
        # Untranslated, so that a cell keeps the ends of its lines as they are.
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        # The library's own text may quote the line.
        sentence = (
            "the record is not quoted as RFC 4180 says: close every quote, double a quote inside a quoted cell, and keep a cell "
            f"within {csv.field_size_limit():,} characters"
        )
        raise LineProblem("INVALID_CSV", sentence) from error
    if len(records) != 1:
        raise LineProblem("INVALID_CSV", "a line ends inside the record without quotes; put such a cell in quotes")
    return records[0]


def _read_header(cells: Sequence[str], delimiter: str) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        called = {",": "commas", "\t": "tabs"}[delimiter]
        sentence = (
            f"the first line must name the columns question and answer and, where there are such, wordings and tags, separated "
            f"by {called}; it does not name {' or '.join(missing)}"
        )
        raise LineProblem("HEADER_INVALID", sentence)
    if any(names.count(name) > 1 for name in FAQ_FIELDS):
        raise LineProblem("HEADER_INVALID", "the first line names a column twice; name each once")
    return names


def _name_cells(header: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    if len(cells) != len(header):
        sentence = f"the record has {len(cells)} cells, the header {len(header)}; put a cell that holds the separator in quotes"
        raise LineProblem("CELL_COUNT", sentence)
    named: dict[str, object] = dict(zip(header, cells, strict=True))
    for name in _LISTS:
        if name in named:
            texts = str(named[name]).split(_SEPARATOR)
            named[name] = [text for text in texts if text.strip()]
    return named
