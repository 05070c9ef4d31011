"""What a report says of a dataset beyond its bad lines."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.base import write_base
from tests.unit.trainer.bots.judging import found, jsonl, judge, talk
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.lengths import LengthBucket, TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.report import DatasetReport, Severity

FAQ, SUPPORT = DatasetFormat.FAQ_JSONL, DatasetFormat.CONVERSATION_JSONL
GREETING = "Good morning, this is the desk of Aurora Lamps, how may I help you today?"
SECRET = "jo.doe@firm.co.uk"


@pytest.fixture
def ruler(tmp_path: Path) -> TokenRuler:
    """Counts a token for each byte, up to 2,048."""
    return TokenRuler(write_base(tmp_path))


def fact(question: str, answer: str = "Yes.", *wordings: str) -> dict[str, object]:
    """Return an FAQ entry."""
    return {"question": question, "answer": answer, "wordings": list(wordings)}


def reasons(report: DatasetReport) -> set[str]:
    """Return the reasons that were found."""
    return set(report.num_by_reason)


def test_tokens_are_counted_by_the_base(ruler: TokenRuler) -> None:
    """Rows fall into buckets that double; the template's own tokens are along."""
    report = judge(jsonl([fact("Q?"), fact("Q" * 50), fact("R" * 50), fact("S" * 1000)]), FAQ, ruler=ruler)

    around = len("user\n\nassistant\nYes.\n") + 4
    assert report.lengths.base_model == "tiny"
    assert report.lengths.num_tokens == 4 * around + 2 + 50 + 50 + 1000
    assert report.lengths.longest_row_tokens == 1000 + around
    assert [bucket for bucket in report.lengths.buckets if bucket.num_rows] == [
        LengthBucket(32, 1),
        LengthBucket(128, 2),
        LengthBucket(1024 * 2, 1),
    ]
    assert [bucket.max_tokens for bucket in report.lengths.buckets] == [32, 64, 128, 256, 512, 1024, 2048]


def test_a_row_beyond_the_base_is_told_with_the_numbers(ruler: TokenRuler) -> None:
    """The data stays usable: another base may take it."""
    report = judge(jsonl([fact("Short?", "Yes.", "S?"), fact("Long?", "y" * 3000, "L?")]), FAQ, ruler=ruler)
    problem, _ = report.problems

    assert (problem.line, problem.reason, report.is_usable) == (2, "ROW_TOO_LONG", True)
    assert "2048" in problem.description


def test_a_row_the_template_refuses_is_told(tmp_path: Path) -> None:
    """Some templates want the user first; conversations that an agent opens are told by line."""
    wants_user = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ messages[0]['content'] }}"
    ruler = TokenRuler(replace(write_base(tmp_path), chat_template=wants_user))
    opened = talk(GREETING, "A lamp.", "Which?", opening="assistant")

    assert (2, "ROW_UNRENDERABLE") in found(judge(jsonl([talk("Hi", "Hello!"), opened]), SUPPORT, ruler=ruler))


def test_nothing_is_counted_without_a_base() -> None:
    """No base is named then."""
    lengths = judge(jsonl([fact("A?"), fact("B?")]), FAQ).lengths

    assert (lengths.base_model, lengths.num_tokens, lengths.buckets) == ("", 0, ())


def test_duplicates_are_told_with_both_lines() -> None:
    """Equal but for case is a duplicate, one letter apart a near duplicate; wordings of one entry are neither of another."""
    question = "How long is the warranty of the red desk lamp?"
    lines = [fact(question), fact(question.upper()), fact(question.replace("red", "rad"), "No.", question[:-1])]
    report = judge(jsonl(lines), FAQ)
    told = {(problem.line, problem.reason): problem.description for problem in report.problems}

    assert "line 1" in told[2, "DUPLICATE_QUESTION"]
    assert "line 1" in told[3, "NEAR_DUPLICATE"]
    other = "Where do I buy bulbs for the kitchen?"
    alike = [fact(question, "Yes.", question[:-1]), fact(other, "Here.", other[:-1])]
    assert reasons(judge(jsonl(alike), FAQ)) == {"HELD_OUT_OVERLAP"}


def test_another_number_is_another_question() -> None:
    """Facts that differ in a number alone are no near duplicates, or a price list would be nothing else."""
    lines = [fact(f"What is the price of the lamp of series {number} in black?") for number in range(9)]

    assert reasons(judge(jsonl(lines), FAQ)) == {"ONE_WORDING"}


@pytest.mark.parametrize("number", [2, 5])
def test_data_of_nothing_but_one_conversation_flatters_its_score(number: int) -> None:
    """Where all rows are alike the held-out one is trained on, too, and the report says so."""
    report = judge(jsonl([talk("Hello there!", GREETING)] * number), SUPPORT)

    assert report.num_by_reason == {"DUPLICATE_CONVERSATION": number - 1, "HELD_OUT_OVERLAP": 1}


def test_conversations_alike_are_no_overlap() -> None:
    """They are held out together or not at all."""
    lines = [talk(f"{GREETING} {place // 2}", "Hello!", "Bye", "Bye!") for place in range(40)]
    assert "HELD_OUT_OVERLAP" not in reasons(
        judge(jsonl(lines + [talk(f"{n} " * 40, "So.") for n in range(9)]), SUPPORT)
    )


def test_a_held_out_wording_like_a_trained_one_is_told() -> None:
    """An FAQ's score says little where the wording held out is another wording with a dot."""
    alike = [
        fact("Do you also open on Sundays", "No.", "Do you also open on Sundays?"),
        fact("Is the shop warm in winter", "Yes.", "Is the shop warm in winter?"),
    ]
    report = judge(jsonl(alike), FAQ)

    assert [reason for _, reason in found(report)] == ["HELD_OUT_OVERLAP"]


def test_personal_data_is_told_by_kind_and_line_and_never_quoted() -> None:
    """Any text of an entry is searched."""
    lines = [
        fact("Whom do I ask?", f"Write to {SECRET}.", "Who knows?"),
        fact("Or?", "Yes.", "Is it +44 20 7946 0018?"),
        fact("Who?", "Yes.", "What man?"),
    ]
    report = judge(jsonl(lines), FAQ)

    assert found(report) == [(1, "PERSONAL_EMAIL"), (2, "PERSONAL_PHONE")]
    assert not any(secret in str(report) for secret in (SECRET, "7946"))


def test_lines_nobody_translated_are_told() -> None:
    """In Japanese data an English answer stands out; Latin names within Japanese do not."""
    japanese = [fact(f"質問{place}は何ですか", f"aptitude はパッケージ管理の道具です。{place}") for place in range(9)]
    report = judge(jsonl([*japanese, fact("他の質問", "This answer was never translated at all.")]), FAQ)

    assert [line for line, reason in found(report) if reason == "OTHER_SCRIPT"] == [10]


def test_data_of_two_languages_is_left_alone() -> None:
    """Where no script is that of most lines, none is another."""
    lines = [
        fact("Who are you today?", "I am the desk."),
        fact("誰ですか、今日は何の日ですか", "私は机です。今日もよろしく。"),
    ]

    assert "OTHER_SCRIPT" not in reasons(judge(jsonl(lines), FAQ))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DataLimits(max_entries=3), "TOO_MANY_ENTRIES"),
        (DataLimits(max_rows=3), "TOO_MANY_ROWS"),
        (DataLimits(max_tokens=100), "TOO_MANY_TOKENS"),
    ],
)
def test_reading_stops_at_the_most_that_is_taken(limits: DataLimits, reason: str, ruler: TokenRuler) -> None:
    """Entries, rows and tokens have a limit each, and the line where it was met is told."""
    report = judge(jsonl([fact(f"Q{place}?") for place in range(9)]), FAQ, limits, ruler)

    assert [problem.reason for problem in report.problems if problem.severity is Severity.ERROR] == [reason]
    assert report.num_entries < 9


@pytest.mark.parametrize("make", [lambda: b"", lambda: b"\n \n", lambda: b"\xef\xbb\xbf"])
@pytest.mark.parametrize("layout", list(DatasetFormat)[:4])
def test_no_entry_is_an_error_of_the_file(make: Callable[[], bytes], layout: DatasetFormat) -> None:
    """Whatever the format, an empty file is refused as a whole."""
    assert found(judge(make(), layout)) == [(0, "EMPTY")]


def test_an_error_is_kept_behind_any_number_of_warnings() -> None:
    """A refusal tells its cause, and warnings of one reason do not hide those of another."""
    lines = [fact(f"Is it {SECRET} {place}?") for place in range(300)]
    report = judge(jsonl([*lines, {}, fact("Ring +44 20 7946 0018?")]), FAQ)

    assert (301, "FIELD_MISSING") in found(report)
    assert (302, "PERSONAL_PHONE") in found(report)
    assert report.num_by_reason["PERSONAL_EMAIL"] == 300


def test_a_report_comes_back_from_its_json(ruler: TokenRuler) -> None:
    """Kept reports are read as they were written, and those of earlier releases still are."""
    report = judge(jsonl([fact("A?"), fact("a?"), {}]), FAQ, ruler=ruler)
    before = {
        name: report.to_json()[name] for name in ("num_entries", "num_rows", "problems", "num_problems", "num_errors")
    }

    assert DatasetReport.from_json(report.to_json()) == report
    assert DatasetReport.from_json(before).problems == report.problems
