"""`adaptory version import` and what the other commands show of an imported version, against the scripted services."""

import json
from pathlib import Path

import pytest

from adaptory.registry.v1.bot_pb2 import BOT_KIND_SUPPORT
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_ADAPTER_TAR
from tests.fakes.services import Run, ScriptedServices
from tests.foreign_adapters import TORCHTUNE, write_foreign
from tests.unit.cli.test_card import PageText

BOT = "tenants/aurora/bots/desk"
VERSION = f"{BOT}/versions/1"


@pytest.fixture
def adapter(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an adapter with more in it than its two files, beside a bot to import it for."""
    folder = write_foreign(tmp_path / "adapter", TORCHTUNE)
    (folder / "README.md").write_text("# Model card")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    run("bot", "create", BOT, "--kind", "support")
    capsys.readouterr()
    return folder


def test_a_folder_becomes_a_version(
    run: Run, adapter: Path, services: ScriptedServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its two files alone are sent, as the bot's kind; what was changed and what to do next is told."""
    assert run("version", "import", BOT, "--adapter", str(adapter), "--origin", "our lab") == 0
    said = " ".join(capsys.readouterr().out.split())
    (upload,), (sent,) = services.registry.datasets.values(), services.registry.data.values()

    assert (upload.kind, upload.format) == (BOT_KIND_SUPPORT, DATASET_FORMAT_ADAPTER_TAR)
    assert (b"adapter_model.safetensors" in sent, b"optimizer.pt" in sent) == (True, False)
    assert services.registry.imports[0].origin == "our lab"
    assert "Filled in peft_type, LORA." in said
    assert f"{VERSION} is UNJUDGED, rank 8" in said
    assert f"`adaptory bot promote {VERSION} --override-gate REASON`" in said


def test_the_same_folder_is_the_same_upload(run: Run, adapter: Path, services: ScriptedServices) -> None:
    """A second run takes up what the first has sent."""
    for _ in range(2):
        run("version", "import", BOT, "--adapter", str(adapter), "--check")

    assert len(services.registry.datasets) == 1
    assert services.registry.versions == {}


def test_rows_to_judge_by_are_sent_along(run: Run, adapter: Path, services: ScriptedServices, tmp_path: Path) -> None:
    """A file is uploaded as the bot's data and named by the import."""
    data = tmp_path / "talks.jsonl"
    data.write_text('{"messages": []}\n')
    assert run("version", "import", BOT, "--adapter", str(adapter), "--data", str(data), "--limit", "1GiB") == 0
    request = services.registry.imports[0]

    assert (request.judging_dataset in services.registry.datasets, request.memory_limit_bytes) == (True, 1 << 30)
    assert request.judging_dataset != request.dataset


def test_pickled_weights_are_not_sent(
    run: Run, adapter: Path, services: ScriptedServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way out is named, and nothing is uploaded."""
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert run("version", "import", BOT, "--adapter", str(adapter)) == 2

    assert "safe_serialization=True" in " ".join(capsys.readouterr().err.split())
    assert services.registry.datasets == {}


def test_an_unjudged_version_has_a_card(
    run: Run, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it comes from and what was changed, and no scores, steps or memory, which nobody measured; in JSON, too."""
    run("version", "import", BOT, "--adapter", str(adapter), "--origin", "<b>our lab</b>")
    file = tmp_path / "card.html"
    assert run("version", "card", VERSION, "--out", str(file)) == 0
    page = PageText(file.read_text())
    capsys.readouterr()
    run("version", "card", VERSION, "--json")
    card = json.loads(capsys.readouterr().out)

    for told in ("No gate has judged it.", "origin <b>our lab</b>", "Filled in peft_type, LORA."):
        assert told in page.text
    assert not {"Scores before and after", "Memory, planned"} & set(page.texts)
    assert (card["training_job"], card["dataset"], card["steps"]) == (None, None, [])
    assert run("version", "show", VERSION) == 0
    assert "It was not judged." in capsys.readouterr().out
