"""FAQ data as a table."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainer.bots.judging import found, judge, read
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.limits import DataLimits

HEADER = b"question,answer,wordings,tags\n"
GOOD = b"When?,At noon.,At what time?|What time?,hours\n"
LIMITS = DataLimits(max_line_bytes=200, max_question_chars=50)

# What a spreadsheet writes into a cell: quotes, commas, bars but in lists, line ends, any language.
cells = st.text(st.characters(exclude_characters="\0|", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip())
)


def test_a_record_is_an_entry_with_its_wordings() -> None:
    """Wordings are separated by a bar."""
    assert read(HEADER + GOOD, DatasetFormat.FAQ_CSV) == [
        (2, FaqEntry(("When?", "At what time?", "What time?"), "At noon."))
    ]


def test_a_record_may_span_lines() -> None:
    """A quoted cell keeps its line ends and doubled quotes, and the next record has the line it begins on."""
    data = b'question,answer\n"Why?","One.\r\n\r\nSo ""said"" he, twice."\nWho?,He.\n'
    entries = read(data, DatasetFormat.FAQ_CSV)

    assert entries == [(2, FaqEntry(("Why?",), 'One.\r\n\r\nSo "said" he, twice.')), (5, FaqEntry(("Who?",), "He."))]


def test_tabs_separate_columns_of_tsv() -> None:
    """A comma is text there."""
    assert read(b"question\tanswer\nWho, pray?\tHe.\n", DatasetFormat.FAQ_TSV) == [
        (2, FaqEntry(("Who, pray?",), "He."))
    ]


def test_a_byte_order_mark_and_the_order_of_columns_do_not_matter() -> None:
    """Spreadsheets write a mark in front, and people their columns in any order and case."""
    data = "\ufeffID,Answer,Question\r\n7,He.,Who?\r\n\r\n8,She.,Who else?\r\n".encode()

    assert [entry for _, entry in read(data, DatasetFormat.FAQ_CSV)] == [
        FaqEntry(("Who?",), "He."),
        FaqEntry(("Who else?",), "She."),
    ]


@given(st.lists(st.tuples(cells, cells, st.lists(cells, max_size=2)), min_size=1, max_size=5))
def test_what_the_standard_library_writes_is_read(rows: list[tuple[str, str, list[str]]]) -> None:
    """Whatever text stands in the cells, a table written by the library has the same entries."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["question", "answer", "wordings"])
    writer.writerows((question, answer, "|".join(wordings)) for question, answer, wordings in rows)
    entries = [entry for _, entry in read(table.getvalue().encode(), DatasetFormat.FAQ_CSV)]

    stripped = [
        (question.strip(), answer.strip(), [text.strip() for text in texts]) for question, answer, texts in rows
    ]
    assert entries == [
        FaqEntry(tuple(dict.fromkeys((question, *texts))), answer) for question, answer, texts in stripped
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"only one cell\n", "CELL_COUNT"),
        (b"a,b,c,d,e\n", "CELL_COUNT"),
        (b'"a"b,c,d,e\n', "INVALID_CSV"),
        (b"a\rb,c,d,e\n", "INVALID_CSV"),
        (b"Who?,,,\n", "FIELD_EMPTY"),
        (b"Who\0?,He.,,\n", "INVALID_TEXT"),
        (b"caf\xe9?,He.,,\n", "INVALID_UTF8"),
        (b"x" * 300 + b",y,,\n", "LINE_TOO_LONG"),
        (b"x" * 51 + b",y,,\n", "TEXT_TOO_LONG"),
        (b"x,y," + b"|".join([b"w"] * 65) + b",\n", "TOO_MANY_TEXTS"),
    ],
)
def test_a_bad_record_is_named_and_the_next_is_read(bad: bytes, reason: str) -> None:
    """Each thing that can be wrong has its reason and its line, and costs that record alone."""
    report = judge(HEADER + GOOD + bad + b"Who?,He.,,\n", DatasetFormat.FAQ_CSV, LIMITS)

    assert [problem for problem in found(report) if problem[1] == reason] == [(3, reason)]
    assert report.num_entries == 2


def test_a_quote_that_is_never_closed_costs_one_record_of_bounded_size() -> None:
    """Reading goes on where the limit was reached: a file of one open quote is not held in memory."""
    report = judge(HEADER + b'"open,y,,\n' + b"filler,filler,,\n" * 20 + b"Who?,He.,,\n", DatasetFormat.FAQ_CSV, LIMITS)

    assert found(report)[0] == (2, "LINE_TOO_LONG")
    assert report.num_entries > 1


def test_a_quote_that_is_open_at_the_end_is_told() -> None:
    """The last record is not dropped silently."""
    assert (3, "INVALID_CSV") in found(judge(HEADER + GOOD + b'"open', DatasetFormat.FAQ_CSV))


@pytest.mark.parametrize("header", [b"text,category\n", b"question;answer\n", b"question,question,answer\n", b"\xff\n"])
def test_without_its_columns_a_table_is_refused(header: bytes) -> None:
    """The refusal is of the header alone: what is behind it cannot be read."""
    report = judge(header + GOOD * 3, DatasetFormat.FAQ_CSV)

    assert [line for line, reason in found(report) if reason != "EMPTY"] == [1]
    assert not report.is_usable


def test_a_misspelt_column_is_an_error_and_another_is_told_once() -> None:
    """`wording` was surely meant to be read, `id` surely not."""
    misspelt = judge(b"question,answer,wording\nWho?,He.,\nWhy?,So.,\n", DatasetFormat.FAQ_CSV)
    other = judge(b"question,answer,wordings,id\nWho?,He.,What man?,1\nWhy?,So.,What for?,2\n", DatasetFormat.FAQ_CSV)

    assert (misspelt.is_usable, other.is_usable) == (False, True)
    assert found(misspelt) == found(other) == [(1, "UNKNOWN_FIELD")]
