"""How one side of the training measurement is run and read, with small programs in the place of both trainers."""

from pathlib import Path

import pytest

from adaptory.core.errors import ServiceError
from adaptory.core.prompting import RenderedRow
from bench.training_side import run_side
from trainer_svc.jobs.workspace import MemorySettings, TrainingSettings, WorkerSpec
from trainer_svc.memory.techniques import BasePrecision, Techniques

TRAINER = """
import sys, time
from pathlib import Path
from trainer_svc.jobs.workspace import ExitCode, Phase, Progress, WorkerResult, Workspace

workspace = Workspace(Path(sys.argv[1]))
libraries = bytearray(b"x") * (96 << 20)
time.sleep(0.3)
workspace.append_progress(Progress(Phase.LOAD, step=0, num_steps=0))
job = bytearray(b"x") * (64 << 20)
for step, seconds in enumerate((9.0, 2.0, 2.0), start=1):
    workspace.append_progress(Progress(Phase.STEP, step=step, num_steps=3, loss=4.0 - step, step_seconds=seconds))
time.sleep(0.5)
workspace.write_result(WorkerResult(ExitCode.SUCCEEDED, train_losses=[3.0, 2.0, 1.0]))
"""
FAILURE = "import sys; sys.exit('no rows today')"
ROW = RenderedRow(ids=(1, 2, 3, 4, 5), learned=(False, False, True, True, True))
BATCHES = [[ROW] * 8, [ROW] * 4, [ROW] * 4]


@pytest.fixture
def spec() -> WorkerSpec:
    """What both programs are asked for, and do not read."""
    memory = MemorySettings.of_one(1, Techniques(BasePrecision.NF4, micro_batch_rows=8))
    return WorkerSpec("bench", "base", "train", "held_out", TrainingSettings(), memory)


def write_program(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    """Write a program that `python -m` finds, and return its name."""
    (folder / "side_program.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path.cwd()}")
    return "side_program"


def test_speed_leaves_the_first_step_out(spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and seconds of the step that warms up count for neither speed; every loss counts."""
    side = run_side(write_program(tmp_path, monkeypatch, TRAINER), spec, BATCHES, tmp_path / "space")

    assert (side.rows_per_second, side.tokens_per_second) == (8 / 4.0, 40 / 4.0)
    assert (side.mean_loss, side.base_precision) == (2.0, "nf4")


def test_what_was_loaded_before_the_job_is_not_the_jobs_memory(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peak begins to count where the program reports that it loads; all of the process is told beside it."""
    side = run_side(write_program(tmp_path, monkeypatch, TRAINER), spec, BATCHES, tmp_path / "space")

    assert 64 << 20 <= side.peak_bytes < 80 << 20
    assert side.process_peak_bytes > 160 << 20


def test_a_side_that_fails_says_why(spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the program and has the end of its log."""
    with pytest.raises(ServiceError, match=r"side_program ended with code 1.*\n.*no rows today"):
        run_side(write_program(tmp_path, monkeypatch, FAILURE), spec, BATCHES, tmp_path / "space")
