"""The schema of a bot's answers on the command line."""

import json
from pathlib import Path

import pytest

from tests.fakes.services import Run, ScriptedServices

BOT = "tenants/aurora/bots/faq"
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
TABLE = """
[answer_schema]
type = "object"
required = ["answer"]

[answer_schema.properties.answer]
type = "string"
"""


@pytest.mark.parametrize("text", [TABLE, 'answer_schema_file = "schema.json"'])
def test_a_bots_file_has_the_schema_as_a_table_or_in_a_file(
    run: Run, services: ScriptedServices, tmp_path: Path, text: str
) -> None:
    """Both say the same; the other file is looked for beside the first."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "bot.toml").write_text(text)

    assert run("bot", "create", BOT, "--file", str(tmp_path / "bot.toml")) == 0

    assert json.loads(services.registry.bots[BOT].answer_schema) == SCHEMA


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'answer_schema_file = "schema.json"\n{TABLE}', "keep one of them"),
        ('answer_schema_file = "gone.json"', "cannot be read"),
        ("[answer_schema]\nconst = 2026-11-27", "has a date in answer_schema"),
    ],
)
def test_a_file_without_a_clear_schema_says_why(
    run: Run,
    services: ScriptedServices,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    told: str,
) -> None:
    """Nothing is created."""
    (tmp_path / "bot.toml").write_text(text)

    assert run("bot", "create", BOT, "--file", str(tmp_path / "bot.toml")) == 2

    assert told in " ".join(capsys.readouterr().err.split())
    assert not services.registry.bots


def test_a_schema_is_pinned_and_taken_away(run: Run, services: ScriptedServices, tmp_path: Path) -> None:
    """The file's text goes as it is."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    run("bot", "create", BOT)

    assert run("bot", "schema", BOT, "--file", str(tmp_path / "schema.json")) == 0
    pinned = services.registry.bots[BOT].answer_schema
    assert run("bot", "schema", BOT, "--none") == 0

    assert json.loads(pinned) == SCHEMA
    assert services.registry.bots[BOT].answer_schema == ""


@pytest.mark.parametrize("both", [True, False])
def test_a_command_without_a_clear_wish_changes_nothing(
    run: Run, services: ScriptedServices, tmp_path: Path, *, both: bool
) -> None:
    """Neither a file nor `--none`, or both, is a mistake; and so is an empty file."""
    (tmp_path / "schema.json").write_text("")
    run("bot", "create", BOT)

    assert run("bot", "schema", BOT, *(["--file", str(tmp_path / "schema.json"), "--none"] if both else [])) == 2
    assert run("bot", "schema", BOT, "--file", str(tmp_path / "schema.json")) == 2
    assert services.registry.bots[BOT].answer_schema == ""
