"""Which files and entries the quality measurement takes."""

import json
from pathlib import Path

import pytest

from adaptory.core.errors import InvalidRequest, NotServed
from bench.quality_sample import list_data_files, take_sample
from tests.fakes.base import write_base
from trainer_svc.bots.data_file import DataFile
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits

LONG = "word " * 100


@pytest.fixture
def ruler(tmp_path: Path) -> TokenRuler:
    """Measures by a tokenizer of bytes."""
    return TokenRuler(write_base(tmp_path / "cache"))


def write(file: Path, *lines: object) -> DataFile:
    """Write lines of JSON and open them as data."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return DataFile.guess(file, DataLimits(), field="--data")


def entry(number: int, answer: str = "yes", *wordings: str) -> dict[str, object]:
    """Return an entry of an FAQ."""
    return {"question": f"question {number}?", "answer": answer, "wordings": list(wordings)}


def test_data_is_found_below_a_folder_by_its_endings(tmp_path: Path) -> None:
    """In the order of names; licences and notes are no data."""
    for name in ("b.csv", "a/tree.tar.gz", "a/x.jsonl", "a/LICENSE", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = [path.relative_to(tmp_path).as_posix() for path in list_data_files(tmp_path)]

    assert found == ["b.csv", "a/tree.tar.gz", "a/x.jsonl"]


def test_the_first_entries_are_taken_up_to_so_many_rows(tmp_path: Path, ruler: TokenRuler) -> None:
    """An entry with all its wordings or not at all."""
    data = write(tmp_path / "faq.jsonl", entry(1, "yes", "one?"), entry(2, "yes", "two?"), entry(3))

    sample = take_sample(data, ruler, max_rows=3, max_row_tokens=500)

    assert (len(sample.entries), sample.num_rows, sample.num_left_out) == (1, 2, 0)


def test_entries_with_long_rows_are_left_out_and_counted(tmp_path: Path, ruler: TokenRuler) -> None:
    """Those behind them are taken in their stead; nothing is clipped."""
    data = write(tmp_path / "faq.jsonl", entry(1), entry(2, LONG), entry(3))

    sample = take_sample(data, ruler, max_rows=2, max_row_tokens=200)

    assert (len(sample.entries), sample.num_rows, sample.num_left_out) == (2, 2, 1)


def test_files_of_code_are_taken_whatever_their_length(tmp_path: Path, ruler: TokenRuler) -> None:
    """Their rows are cut to fit."""
    data = write(tmp_path / "code.jsonl", {"path": "a.py", "content": f"x = '{LONG}'\n"})

    sample = take_sample(data, ruler, max_rows=5, max_row_tokens=20)

    assert (data.kind, sample.num_rows) == (BotKind.CODE_COMPLETION, 1)


def test_pairs_of_preference_are_known_and_not_trained_on_yet(tmp_path: Path) -> None:
    """They are told from questions, so that the refusal says what they are."""
    pair = {"prompt": [{"role": "user", "content": "Hello"}], "chosen": "Hello!", "rejected": "Halo."}

    with pytest.raises(NotServed, match="PREFERENCE_JSONL are read and judged, but not trained on yet"):
        write(tmp_path / "pairs.jsonl", pair).judge(field="--data")


def test_bad_data_is_refused_with_its_first_lines_and_without_their_words(tmp_path: Path) -> None:
    """As a job would refuse it."""
    data = write(tmp_path / "faq.jsonl", {"question": "secret?"}, entry(2))

    with pytest.raises(InvalidRequest, match="line 1: `answer` is missing") as refused:
        data.judge(field="--data")
    assert "secret" not in refused.value.message
