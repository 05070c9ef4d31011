"""A card in a real browser: Debian's chromium, where it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from adaptory.card.card import Card, TrainedStep
from adaptory.card.page import render_page
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot
from adaptory.registry.v1.dataset_pb2 import Dataset
from adaptory.registry.v1.version_pb2 import Evaluation, Lineage, SampleAnswer, Version
from adaptory.trainer.v1.training_job_pb2 import TrainingJob

WIDTH, HEIGHT = 1000, 1400
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
def browser() -> str:
    """The browser's program."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with a hostile answer."""
    version = Version(
        name="tenants/aurora/bots/faq/versions/1",
        state=Version.STATE_READY,
        evaluation=Evaluation(
            base_loss=3.0, adapter_loss=0.4, samples=[SampleAnswer(question="How?", base=HOSTILE, adapter="So.")]
        ),
        lineage=Lineage(
            predicted_phase_bytes={"load": 500 << 20, "step": 600 << 20}, phase_peak_bytes={"step": 550 << 20}
        ),
    )
    steps = tuple(TrainedStep(step, 3.0 / step, 1e-3, 550 << 20) for step in range(1, 40))
    card = Card(version, Bot(kind=BOT_KIND_FAQ), TrainingJob(), Dataset(), steps, ())
    file = tmp_path / "card.html"
    file.write_text(render_page(card), encoding="utf-8")
    return file


def test_the_browser_shows_the_page_and_runs_nothing_of_it(browser: str, page: Path) -> None:
    """The curve has its points, the hostile answer is text, the title is still ours."""
    dom = _run(browser, "--dump-dom", page.as_uri()).decode()

    assert "<title>tenants/aurora/bots/faq/versions/1</title>" in dom
    assert dom.count("<polyline") == 1
    assert "&lt;script&gt;document.title" in dom


def test_the_page_is_drawn(browser: str, page: Path, tmp_path: Path) -> None:
    """A picture of the asked size, with more on it than an empty page has."""
    shots = []
    empty = tmp_path / "empty.html"
    empty.write_text("<title>empty</title>")
    for file in (page, empty):
        shot = file.with_suffix(".png")
        _run(browser, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", file.as_uri())
        shots.append(shot.read_bytes())

    assert [int.from_bytes(shots[0][at : at + 4], "big") for at in (16, 20)] == [WIDTH, HEIGHT]
    assert len(shots[0]) > 5 * len(shots[1])


def _run(browser: str, *arguments: str) -> bytes:
    # A container's root has no user namespaces for the browser's own sandbox; the page is ours.
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
