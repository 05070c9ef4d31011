"""FAQ data: what is read, what is refused, and that nothing of it is told."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.faq_data import read_faq_lines
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.report import MAX_PROBLEMS_KEPT, DatasetReport, Severity

LIMITS = DataLimits(max_line_bytes=400, max_entries=5, max_wordings=3, max_question_chars=50)
SECRET = "the safe opens at noon"
GOOD = json.dumps({"question": "When?", "answer": SECRET, "wordings": ["At what time?"]}).encode() + b"\n"


def judge(*lines: bytes) -> DatasetReport:
    """Judge a file of these lines."""
    return judge_dataset(io.BytesIO(b"".join(lines)), BotKind.FAQ, DatasetFormat.FAQ_JSONL, LIMITS, None)


def found(report: DatasetReport) -> list[tuple[int, str]]:
    """Return each problem's line and reason."""
    return [(problem.line, problem.reason) for problem in report.problems]


def line(**fields: object) -> bytes:
    """Return one entry, good but for the fields given."""
    return json.dumps({"question": f"Q {SECRET}", "answer": "A", **fields}).encode() + b"\n"


def test_an_entry_is_a_row_for_each_wording() -> None:
    """Entries and rows are counted apart."""
    report = judge(GOOD, line(question="Where?", wordings=["In what place?", "On which floor?"]))

    assert (report.num_entries, report.num_rows, report.num_problems) == (2, 5, 0)


def test_entries_with_one_wording_are_told_by_their_number() -> None:
    """Data that is good but for them stays usable, and is advised to have more; data that is refused has other troubles."""
    single = [line(question="Where?"), line(question="Why?")]
    alone, refused = judge(GOOD, *single), judge(*single, b"{")

    assert (found(alone), alone.is_usable) == ([(0, "ONE_WORDING")], True)
    assert "2 of 3 entries" in alone.problems[0].description
    assert found(refused) == [(3, "INVALID_JSON")]


def test_a_wording_that_repeats_the_question_is_one_row() -> None:
    """The same text twice in one entry is learned once."""
    data = io.BytesIO(line(question="Why?", wordings=["Why?", " Why? ", "How so?"]))
    ((_, entry),) = read_faq_lines(data, LIMITS, NoProblems())

    assert entry.questions == ("Why?", "How so?")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{not json\n", "INVALID_JSON"),
        (b"[1, 2]\n", "INVALID_JSON"),
        (b'{"question": "a", "question": "b", "answer": "c"}\n', "INVALID_JSON"),
        (b'{"question": NaN, "answer": "c"}\n', "INVALID_JSON"),
        (b'{"question": "a", "answer": "caf\xe9"}\n', "INVALID_UTF8"),
        (b"[" * 399 + b"\n", "INVALID_JSON"),
        (line(answer="x" * 500), "LINE_TOO_LONG"),
        (line(question="x" * 51), "TEXT_TOO_LONG"),
        (line(question=7), "FIELD_TYPE"),
        (line(wordings="one"), "FIELD_TYPE"),
        (line(answer="  "), "FIELD_EMPTY"),
        (line(wordings=["a", "b", "c", "d"]), "TOO_MANY_TEXTS"),
        (line(anser="typo"), "UNKNOWN_FIELD"),
        (b'{"question": "a"}\n', "FIELD_MISSING"),
        (b'{"question": "a", "answer": "\\ud800"}\n', "INVALID_TEXT"),
    ],
)
def test_a_bad_line_is_named_by_its_number(bad: bytes, reason: str) -> None:
    """Each thing that can be wrong has its reason, and the line is counted from 1, blank ones along."""
    assert found(judge(GOOD, b"\n", bad, line(question="Who?"))) == [(3, reason)]


def test_a_bad_line_makes_the_data_unusable() -> None:
    """One error is enough."""
    assert not judge(GOOD, b"{\n").is_usable


def test_reading_goes_on_behind_a_long_line() -> None:
    """The rest of an overlong line is not taken for lines of its own."""
    report = judge(b"x" * 5000 + b"\n", GOOD)

    assert (found(report), report.num_entries) == ([(1, "LINE_TOO_LONG")], 1)


def test_an_empty_file_is_refused() -> None:
    """No entry is an error of the whole file."""
    assert found(judge(b"\n  \n")) == [(0, "EMPTY")]


def test_a_single_row_is_refused() -> None:
    """There must be a row to learn and one to judge by."""
    assert found(judge(line())) == [(0, "TOO_FEW_ROWS")]


def test_too_many_entries_are_refused() -> None:
    """Reading stops at the limit."""
    report = judge(*(line(question=f"Q{number}") for number in range(9)))

    assert (found(report), report.num_entries) == ([(6, "TOO_MANY_ENTRIES")], 5)


def test_a_question_asked_twice_is_a_warning() -> None:
    """Equal but for case and spaces is equal; the data stays usable."""
    report = judge(line(question="Open today?"), line(question="open  TODAY?"))

    assert (2, "DUPLICATE_QUESTION") in found(report)
    assert {problem.severity for problem in report.problems} == {Severity.WARNING}
    assert report.is_usable


def test_only_the_first_problems_are_kept() -> None:
    """All are counted, a bounded number is told."""
    report = judge(*[b"{\n"] * (MAX_PROBLEMS_KEPT + 50))

    assert (len(report.problems), report.num_problems) == (MAX_PROBLEMS_KEPT, MAX_PROBLEMS_KEPT + 51)


@given(st.binary(max_size=600), st.integers(0, 200))
def test_no_bytes_break_the_reader_or_are_told(noise: bytes, cut: int) -> None:
    """Whatever is uploaded gives a report, and no report quotes the data."""
    report = judge(GOOD[:cut] + noise + GOOD[cut:])

    assert SECRET not in str(report)
