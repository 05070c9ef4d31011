"""`adaptory version card`: the page and its JSON, of a version that the scripted services made."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adaptory.registry.v1.version_pb2 import SampleAnswer, Score, Version
from tests.fakes.services import Run, ScriptedServices

BOT = "tenants/aurora/bots/faq"
VERSION = f"{BOT}/versions/1"


class PageText(HTMLParser):
    """Collects what a reader sees, and the tags that would run or fetch something."""

    def __init__(self, page: str) -> None:
        """Parse a page."""
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it would fetch."""
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(filter(None, self.texts))


@pytest.fixture
def version(run: Run, services: ScriptedServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Version:
    """A version with scores, samples and a data report."""
    data = tmp_path / "faq.jsonl"
    data.write_text('{"question": "How long?", "answer": "You have 45 days."}\n')
    run("bot", "create", BOT, "--display-name", "Aurora's questions")
    run("train", "--bot", BOT, "--data", str(data), "--limit", "1GiB")
    made = services.registry.versions[VERSION]
    del made.evaluation.scores[:]
    del made.evaluation.samples[:]
    made.evaluation.scores.append(Score(name="fact_recall", base=0.1, adapter=0.9, num_answers=48))
    made.evaluation.scores.append(
        Score(name="false_refusals", base=0.0, adapter=0.2, num_answers=48, is_lower_better=True)
    )
    made.evaluation.notes.append("2 of 5 held-out tests were run within 7 s.")
    answer = "<script>alert(1)</script> & {{ 7 * 7 }}"
    made.evaluation.samples.append(SampleAnswer(question="How long?", reference="45 days", base=answer, adapter="45"))
    next(iter(services.registry.datasets.values())).report.num_by_reason["NEAR_DUPLICATE"] = 3
    capsys.readouterr()
    return made


def test_the_page_tells_what_a_version_is(run: Run, version: Version, tmp_path: Path) -> None:
    """Scores before and after, answers side by side, losses, memory and what the data report found, with nothing fetched."""
    file = tmp_path / "card.html"
    assert run("version", "card", VERSION, "--out", str(file)) == 0
    page = PageText(file.read_text())

    for told in (
        "Aurora's questions",
        "fact recall answers that hold every fact of their reference 0.100 0.900 better",
        "false refusals answerable questions it refuses 0.000 0.200 worse",
        "2 of 5 held-out tests were run within 7 s.",
        "certainty at least right wrong any 13 4 0.80 13 1",
        "600 MiB / 560 MiB",
        "near duplicate 3",
    ):
        assert told in page.text
    assert "polyline" in page.tags
    assert page.sources == []


def test_answers_are_text_and_never_markup(run: Run, version: Version, tmp_path: Path) -> None:
    """What a model or a tenant wrote is shown as it is written: no tag, no template."""
    file = tmp_path / "card.html"
    run("version", "card", VERSION, "--out", str(file))
    page = PageText(file.read_text())

    assert version.evaluation.samples[0].base in page.text
    assert "script" not in page.tags


def test_the_card_as_json_has_the_same(run: Run, version: Version, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, job, dataset and the loss of every step, and no file is written."""
    assert run("version", "card", VERSION, "--json") == 0
    card = json.loads(capsys.readouterr().out)

    assert card["version"]["evaluation"]["scores"][0]["adapter"] == 0.9
    assert [step["loss"] for step in card["steps"]] == [2.0, 1.0, 2.0 / 3, 0.5]
    assert card["training_job"]["name"] == card["version"]["lineage"]["training_job"]
    assert card["dataset"]["report"]["num_by_reason"] == {"NEAR_DUPLICATE": "3"}


def test_losses_on_held_out_rows_are_drawn_and_the_step_that_was_kept_is_named(
    run: Run, version: Version, services: ScriptedServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second line with a mark for each measurement; the JSON has it with its step, and no step twice."""
    services.script.held_out_losses = {2: 1.5, 4: 1.75}
    version.lineage.best_step = 2
    file = tmp_path / "card.html"
    run("version", "card", VERSION, "--out", str(file))
    capsys.readouterr()
    run("version", "card", VERSION, "--json")
    steps = json.loads(capsys.readouterr().out)["steps"]

    assert file.read_text().count("<circle") == 2
    assert "The adapter is that of step 2" in PageText(file.read_text()).text
    assert [(step["step"], step["held_out_loss"]) for step in steps] == [(1, None), (2, 1.5), (3, None), (4, 1.75)]


def test_a_version_with_little_to_tell_has_a_page_too(
    run: Run, version: Version, services: ScriptedServices, tmp_path: Path
) -> None:
    """One step is no curve, and answers may be missing: the page says so."""
    services.script.num_steps = 1
    del version.evaluation.samples[:]
    file = tmp_path / "card.html"
    assert run("version", "card", VERSION, "--out", str(file)) == 0

    text = PageText(file.read_text()).text
    assert "The losses of its steps were not kept." in text
    assert "No answers were kept with this version." in text


def test_a_page_that_cannot_be_written_is_told(
    run: Run, version: Version, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is missing: exit 2, with the path."""
    assert run("version", "card", VERSION, "--out", str(tmp_path / "none" / "card.html")) == 2
    assert "cannot be written" in " ".join(capsys.readouterr().err.replace("│", " ").split())
