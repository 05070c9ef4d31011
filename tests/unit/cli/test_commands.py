"""The command line against both services, scripted: what it prints and how it exits."""

import json
from pathlib import Path

import pytest

from adaptory.registry.v1.bot_pb2 import BOT_KIND_SUPPORT
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_PREFERENCE_JSONL
from adaptory.trainer.v1.training_job_pb2 import TrainingJob
from tests.fakes.services import Run, ScriptedServices

BOT = "tenants/aurora/bots/faq"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small FAQ file."""
    file = tmp_path / "faq.jsonl"
    file.write_text('{"question": "How long?", "answer": "You have 45 days."}\n')
    return file


def test_train_goes_from_a_file_to_an_answering_version(
    run: Run, services: ScriptedServices, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command uploads, trains, shows loss and memory, and promotes."""
    assert run("bot", "create", BOT) == 0
    assert run("train", "--bot", BOT, "--data", str(data), "--limit", "1GiB", "--promote") == 0
    told = capsys.readouterr()
    assert services.registry.bots[BOT].routes.production == f"{BOT}/versions/1"
    assert "loss 0.500 · 400 tokens/s" in told.err
    assert "550 MiB of 1,024 MiB (54%)" in told.err
    assert "It answers from now on." in told.out


def test_training_may_be_told_when_to_stop_and_tells_which_step_it_kept(
    run: Run, services: ScriptedServices, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The patience goes with the job; where an earlier adapter is the best one, the end says so."""
    services.script.held_out_losses, services.script.best_step = {2: 1.25, 4: 1.5}, 2
    run("bot", "create", BOT)
    assert run("train", "--bot", BOT, "--data", str(data), "--patience", "1") == 0
    told = capsys.readouterr()

    assert [job.settings.early_stopping_patience for job in services.trainer.jobs.values()] == [1]
    assert "held-out loss 1.250" in told.err
    assert "the adapter of step 2 of 4" in " ".join(told.out.split())


BOT_FILE = """
refusal_text = "I only know about Aurora."
unanswerable_questions = ["Who won the cup?", "Do you sell cars?"]

[style_rules]
greetings = ["Hello", "Hi"]
closings = ["Kind regards"]
forms_of_address = ["you"]
forbidden_words = ["cheap"]
min_chars = 20
max_chars = 400

[quality_gate]
max_pass_fall = 0.2

[generation_defaults]
max_output_tokens = 64
"""


def test_a_file_says_what_a_bot_refuses_and_how_it_speaks(run: Run, services: ScriptedServices, tmp_path: Path) -> None:
    """Everything the contract takes of a new bot; an option goes before the file."""
    file = tmp_path / "bot.toml"
    file.write_text(BOT_FILE)
    assert run("bot", "create", BOT, "--kind", "support", "--file", str(file), "--refusal", "Ask somebody else.") == 0
    bot = services.registry.bots[BOT]

    assert (bot.kind, bot.refusal_text) == (BOT_KIND_SUPPORT, "Ask somebody else.")
    assert list(bot.unanswerable_questions) == ["Who won the cup?", "Do you sell cars?"]
    assert (list(bot.style_rules.greetings), bot.style_rules.max_chars) == (["Hello", "Hi"], 400)
    assert (bot.quality_gate.max_pass_fall, bot.generation_defaults.max_output_tokens) == (0.2, 64)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("greeting = 'Hello'", "has greeting; a bot's file may have display_name, system_prompt"),
        ("[style_rules]\ngreting = ['Hello']", 'no field named "greting"'),
        ("[style_rules]\ngreetings = 7", "does not describe a bot: "),
        ("[style_rules\n", "cannot be read as TOML: "),
        ("name = 'tenants/other/bots/faq'", "has name; a bot's file may have"),
    ],
)
def test_a_file_that_describes_no_bot_says_why(
    run: Run,
    services: ScriptedServices,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    told: str,
) -> None:
    """Nothing is created; the error names the file, the field, and the fields there are."""
    file = tmp_path / "bot.toml"
    file.write_text(text)

    assert run("bot", "create", BOT, "--file", str(file)) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert told in error
    assert "bot.toml" in error
    assert not services.registry.bots


def test_every_setting_of_a_training_has_an_option(run: Run, services: ScriptedServices, data: Path) -> None:
    """What is given goes with the job; what is left out is the recipe's."""
    options = {"--rank": 4, "--alpha": 8, "--epochs": 2, "--batch-rows": 3, "--max-row-tokens": 300, "--max-steps": 9}
    run("bot", "create", BOT)
    arguments = [str(part) for option in options.items() for part in option]
    assert run("train", "--bot", BOT, "--data", str(data), "--held-out-share", "0.5", *arguments) == 0
    [settings] = [job.settings for job in services.trainer.jobs.values()]

    named = {field.name for field, _ in settings.ListFields()} - {"method"}
    assert named == {*(option[2:].replace("-", "_") for option in options), "held_out_share"}
    assert (settings.alpha, settings.max_row_tokens, settings.held_out_share) == (8, 300, 0.5)


def test_train_prints_only_json_when_asked(run: Run, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the job and the version from one line of standard output."""
    run("bot", "create", BOT, "--json")
    capsys.readouterr()
    assert run("train", "--bot", BOT, "--data", str(data), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["version"]["evaluation"]["adapter_loss"] == 0.2
    assert printed["training_job"]["state"] == "STATE_SUCCEEDED"


def test_job_that_does_not_fit_exits_with_3(run: Run, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit nothing fits tells the smallest that would do, and has an exit code of its own."""
    run("bot", "create", BOT)
    assert run("train", "--bot", BOT, "--data", str(data), "--limit", "1MiB") == 3
    assert "the smallest limit is 524288000" in capsys.readouterr().err


def test_failed_job_exits_with_its_reason(
    run: Run, services: ScriptedServices, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that failed ends the command with the job's own words and numbers."""
    services.script.job_ends = TrainingJob.STATE_FAILED
    run("bot", "create", BOT)
    assert run("train", "--bot", BOT, "--data", str(data)) == 1
    assert "The job took 1,200 MiB of 1,024 MiB" in capsys.readouterr().err


def test_rejected_data_shows_lines_and_exits_with_2(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad data is told line by line and nothing is trained."""
    file = tmp_path / "bad.jsonl"
    file.write_text("not json\n")
    assert run("dataset", "upload", "aurora", str(file)) == 2
    assert "INVALID_JSON" in capsys.readouterr().out


def test_a_report_shows_lengths_counts_and_lines(
    run: Run, services: ScriptedServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People see how long the rows are by which base, what was found how often, and in which lines."""
    file = tmp_path / "faq.csv"
    file.write_text("question,answer\n{,}\n")
    assert run("dataset", "upload", "aurora", str(file), "--base", "tiny") == 0
    told = capsys.readouterr().out

    assert "1,234 tokens of tiny, the longest row has 60." in told
    assert ["".join(line.split()) for line in told.splitlines() if "█" in line] == [
        f"│32│1│{'█' * 15}│",
        f"│64│2│{'█' * 30}│",
    ]
    assert "│NEAR_DUPLICATE│1│" in "".join(told.split())


def test_a_layout_can_be_named(run: Run, services: ScriptedServices, tmp_path: Path) -> None:
    """Preference pairs have the ending of conversations."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}\n")
    assert run("dataset", "upload", "aurora", str(file), "--kind", "support", "--format", "preference-jsonl") == 0

    (dataset,) = services.registry.datasets.values()
    assert (dataset.kind, dataset.format) == (BOT_KIND_SUPPORT, DATASET_FORMAT_PREFERENCE_JSONL)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("bot", "show", "tenants/aurora/bots/none"), 4, "does not exist"),
        (("bot", "create", "aurora"), 2, "tenants/{tenant}/bots/{bot}"),
        (("train", "--bot", BOT, "--dataset", "d", "--limit", "lots"), 2, "write it like 8GiB"),
        (("train", "--bot", BOT), 2, "give a file with --data"),
        (("--key", "adk_wrong", "bot", "show", BOT), 2, "ask the operator"),
        (("--trainer", "127.0.0.1:1", "bot", "show", BOT), 5, "cannot be reached"),
        (("bench", "nothing"), 4, "There is no measurement"),
    ],
)
def test_failures_tell_the_way_out(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], exit_code: int, told: str
) -> None:
    """Every failure has its exit code and a sentence that says what to do, and no traceback."""
    assert run(*arguments) == exit_code
    printed = capsys.readouterr().err
    assert told in " ".join(printed.replace("│", " ").split())
    assert "Traceback" not in printed


def test_failure_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a failure is an object on standard output, with its reason and numbers."""
    assert run("bot", "show", "tenants/aurora/bots/none", "--json") == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["metadata"]) == ("NOT_FOUND", {"name": "tenants/aurora/bots/none"})


def test_chat_streams_the_answer(run: Run, services: ScriptedServices, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer goes to standard output, what is about it to standard error."""
    assert run("chat", BOT, "How long?") == 0
    told = capsys.readouterr()
    assert told.out.strip() == services.script.answer
    assert f"{BOT}/versions/1 · 4 tokens" in told.err
    assert "certainty 0.78" in told.err


def test_chat_needs_a_tenants_key(services: ScriptedServices, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key no call is made, and the command that prints one is named."""
    monkeypatch.delenv("ADAPTORY_KEY")
    assert run("chat", BOT, "How long?") == 2
    assert services.serve.asked == []


def test_lists_are_tables_or_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """What was created is listed, for people and for programs."""
    run("tenant", "create", "aurora", "--display-name", "Aurora Bikes")
    assert run("tenant", "list") == 0
    assert "Aurora Bikes" in capsys.readouterr().out
    run("tenant", "list", "--json")
    assert [tenant["name"] for tenant in json.loads(capsys.readouterr().out)] == ["tenants/aurora"]


@pytest.mark.parametrize(
    ("command", "name"), [("job", "tenants/aurora/trainingJobs/j1"), ("version", f"{BOT}/versions/1")]
)
def test_show_has_planned_and_measured_memory_side_by_side(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    """Each phase is a row in MiB with its ratio, a phase that was not reached has none; JSON has the same in bytes."""
    run("bot", "create", BOT)
    run("train", "--bot", BOT, "--data", str(data))
    capsys.readouterr()
    assert run(command, "show", name) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["step", "600", "560", "0.93"] in rows
    assert ["save", "400", "-", "-"] in rows

    assert run(command, "show", name, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    peaks = printed["measured_phase_bytes"] if command == "job" else printed["lineage"]["phase_peak_bytes"]
    assert peaks == {"load": str(300 * 2**20), "step": str(560 * 2**20)}


def test_version_show_has_scores_of_base_and_adapter_side_by_side(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses, each score with what is better and of how many, and some answers."""
    run("bot", "create", BOT)
    run("train", "--bot", BOT, "--data", str(data))
    capsys.readouterr()
    assert run("version", "show", f"{BOT}/versions/1") == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]

    assert ["loss, general text", "3.800", "4.100", "less", ""] in rows
    assert ["fact_recall", "0.000", "0.930", "more", "14 answers"] in rows
    assert ["false_refusals", "0.000", "0.050", "less", "14 answers"] in rows
    assert ["any", "13", "4"] in rows
    assert ["0.80", "13", "1"] in rows
    assert ["How long?", "45 days.", "Who?", "45 days!"] in rows


def test_a_rejected_version_is_promoted_with_a_reason_alone(
    services: ScriptedServices, run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training does not promote it and says how to; the reason is shown with the version from then on."""
    services.script.rejection = "Its fact_recall is 0.000, the base's 0.000."
    run("bot", "create", BOT)
    assert run("train", "--bot", BOT, "--data", str(data), "--promote") == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "Its fact_recall is 0.000" in told
    assert f"adaptory bot promote {BOT}/versions/1 --override-gate REASON" in told
    assert run("bot", "promote", f"{BOT}/versions/1") == 2

    assert run("bot", "promote", f"{BOT}/versions/1", "--override-gate", "We know better.") == 0
    capsys.readouterr()
    run("version", "show", f"{BOT}/versions/1")
    told = " ".join(capsys.readouterr().out.split())
    assert "The gate rejected it: Its fact_recall is 0.000" in told
    assert "tenants/aurora overrode the gate" in told
    assert "We know better." in told
