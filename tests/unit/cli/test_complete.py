"""`adaptory complete` against a scripted server: which code it sends and what it prints."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptory.cli.__main__ import main
from adaptory.serve.v1.serve_service_pb2 import CompleteRequest
from tests.fakes.services import KEY, ScriptedServices, open_in_thread

BOT = "tenants/aurora/bots/code"
CODE = "def f():\n    return 1\n\nprint(f())\n"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServices]:
    """Both services, scripted, and named to the command line."""
    with open_in_thread() as services:
        monkeypatch.setenv("ADAPTORY_TRAINER", services.trainer_address)
        monkeypatch.setenv("ADAPTORY_SERVER", services.server_address)
        monkeypatch.setenv("ADAPTORY_KEY", KEY)
        yield services


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of code."""
    path = tmp_path / "f.py"
    path.write_bytes(CODE.encode())
    return path


def run(*arguments: str) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["complete", BOT, *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("at", "prefix"),
    [("", CODE), ("1", "def f():"), ("2:5", "def f():\n    "), ("2:1", "def f():\n"), ("5", CODE), ("5:1", CODE)],
)
def test_the_cursor_divides_the_file(services: ScriptedServices, file: Path, at: str, prefix: str) -> None:
    """A line alone is its end, a column stands before its character, and no place is the end of the file."""
    assert run(str(file), "--at", at) == 0

    [sent] = services.serve.completed
    assert (sent.prefix, sent.suffix) == (prefix, CODE[len(prefix) :])


def test_the_code_is_printed_and_what_is_about_it_apart(
    services: ScriptedServices, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code goes to standard output; version, times and what was not read go to standard error."""
    assert run(str(file), "--stop", "block", "--max-tokens", "9") == 0

    told = capsys.readouterr()
    assert told.out.strip() == services.script.answer
    assert f"{BOT}/versions/1 · 4 tokens" in told.err
    assert "1,200 characters far from the cursor not read" in told.err
    assert services.serve.completed[0].stop_at == CompleteRequest.STOP_AT_BLOCK
    assert services.serve.completed[0].options.max_output_tokens == 9


def test_a_program_reads_one_line_of_json(
    services: ScriptedServices, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The completion and its Finish as one object."""
    assert run(str(file), "--json") == 0

    assert json.loads(capsys.readouterr().out)["text"] == services.script.answer


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("0", "write LINE or LINE:COLUMN"),
        ("x", "write LINE or LINE:COLUMN"),
        ("6", "names line 6; the file has 5"),
        ("1:10", "names column 10; line 1 ends at 9"),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    services: ScriptedServices, file: Path, capsys: pytest.CaptureFixture[str], at: str, sentence: str
) -> None:
    """The message says where the file or the line ends; nothing is asked."""
    assert run(str(file), "--at", at) == 2

    assert sentence in " ".join(capsys.readouterr().err.split())
    assert services.serve.completed == []


def test_what_is_no_text_is_refused(services: ScriptedServices, file: Path) -> None:
    """A missing file and one that is not UTF-8 are bad input."""
    file.write_bytes(b"\xff\xfe")

    assert (run(str(file)), run(str(file.parent / "none.py"))) == (2, 2)
