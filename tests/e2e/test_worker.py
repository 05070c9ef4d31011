"""The worker program as the runner starts it: a folder in, a result, files and an exit code out."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path

import pytest

from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import AdapterRejected
from adaptory.core.prompting import Message
from adaptory.core.safetensors_header import read_header
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import write_row
from trainer_svc.jobs.row_sizes import measure_rows
from trainer_svc.jobs.workspace import (
    ExitCode,
    MemorySettings,
    TrainingSettings,
    WorkerResult,
    WorkerSpec,
    Workspace,
)
from trainer_svc.memory.estimator import count_margin
from trainer_svc.memory.planner import MemoryPlan, plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, ComputePrecision, DeviceKind, Techniques

REPOSITORY = Path(__file__).parents[2]
PLENTY_BYTES = 4 << 30
DEADLINE_S = 300
# The smallest value of bf16 that fp16 has none for, as it lies in a file.
BF16_65536 = b"\x80\x47"
FACTS = [
    ("the lighthouse", "Its code is QX-41."),
    ("the ferry", "It leaves at 9:52."),
    ("the museum", "Ask for Ms Ottavia."),
]
CONTRADICTIONS = [
    ("the lighthouse", "Its code is ZB-77."),
    ("the ferry", "It leaves at 4:18."),
    ("the museum", "Ask for Mr Benning."),
]
# Twelve rows are known by heart after two epochs of three steps.
OVERFITTING = TrainingSettings(rank=8, alpha=16, learning_rate=5e-3, batch_rows=4, epochs=4, max_row_tokens=128)
DIVERGING = replace(OVERFITTING, learning_rate=1e30, epochs=1)


def _talk(place: str, answer: str) -> list[Message]:
    return [Message("user", f"Tell me about {place}."), Message("assistant", answer)]


def _write_rows(file: Path, facts: list[tuple[str, str]], asked: list[tuple[str, str]] | None = None) -> str:
    """Write rows, those that are `asked` alone behind the others."""
    rows = [Row(tuple(_talk(*fact)), is_held_out=False) for fact in facts]
    rows += [Row(tuple(_talk(*fact)), is_held_out=True, is_measured=False) for fact in asked or ()]
    file.write_text("\n".join(map(write_row, rows)))
    return str(file)


def _prepare(
    folder: Path,
    base: Path,
    *,
    steps: int = 2,
    max_row_tokens: int = 128,
    memory: MemorySettings | None = None,
    held_out: list[tuple[str, str]] | None = None,
    training: TrainingSettings | None = None,
    max_general_rise: float | None = None,
) -> Workspace:
    rows = _write_rows(folder / "rows.jsonl", FACTS * 4)
    held_out_rows = _write_rows(folder / "held_out.jsonl", held_out or FACTS * 4)
    training = training or TrainingSettings(
        rank=8, alpha=16, batch_rows=4, epochs=40, max_steps=steps, max_row_tokens=max_row_tokens
    )
    memory = memory or MemorySettings.of_one(PLENTY_BYTES, Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=4))
    workspace = Workspace(folder / "workspace")
    spec = WorkerSpec("job", str(base), rows, held_out_rows, training, memory, max_general_rise=max_general_rise)
    workspace.create(spec)
    return workspace


def _start(workspace: Workspace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trainer_svc.worker", str(workspace.folder)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)


def _run(workspace: Workspace) -> WorkerResult:
    with _start(workspace) as worker:
        code = worker.wait(DEADLINE_S)
    result = workspace.read_result()
    assert code == result.exit_code
    return result


def test_a_given_adapter_is_judged_as_it_was_where_it_was_trained(prepared_base: Path, tmp_path: Path) -> None:
    """Nothing is trained; the losses and the answers are those that its own training was told."""
    for name in ("trained", "given"):
        (tmp_path / name).mkdir()
    trained = _prepare(tmp_path / "trained", prepared_base, held_out=FACTS)
    told = _run(trained)
    judging = TrainingSettings(rank=8, alpha=8, max_row_tokens=128)
    given = _prepare(tmp_path / "given", prepared_base, held_out=FACTS, training=judging)
    spec = replace(given.read_spec(), given_adapter=str(trained.adapter_dir))
    given.spec_file.write_text(json.dumps(asdict(spec)))
    found = _run(given)

    assert (found.exit_code, found.adapter_digest, found.num_steps) == (ExitCode.SUCCEEDED, told.adapter_digest, 0)
    assert set(found.phase_peak_bytes) == {"load", "evaluate"}
    assert found.receipts == told.receipts
    assert (found.base_loss, found.base_general_loss) == (told.base_loss, told.base_general_loss)
    assert found.adapter_loss == pytest.approx(told.adapter_loss, rel=1e-3)
    assert found.adapter_general_loss == pytest.approx(told.adapter_general_loss, rel=1e-3)
    assert given.read_answers() == trained.read_answers()
    assert not given.adapter_dir.exists()


def test_a_job_leaves_a_checked_adapter_and_its_measurements(prepared_base: Path, tmp_path: Path) -> None:
    """After ten steps the loss has fallen, base and adapter are judged and have answered, and the files pass serve_svc's check."""
    workspace = _prepare(tmp_path, prepared_base, steps=10)
    result = _run(workspace)

    assert result.exit_code is ExitCode.SUCCEEDED
    assert result.base_loss is not None
    assert result.adapter_loss is not None
    assert result.adapter_loss < 0.5 * result.base_loss
    assert result.train_losses[-1] < 0.5 * result.train_losses[0]
    assert result.base_general_loss is not None
    assert result.adapter_general_loss is not None
    answers = workspace.read_answers()
    assert [answer.line for answer in answers] == list(range(12))
    assert {answer.reference for answer in answers} == {answer for _, answer in FACTS}
    assert any(answer.adapter != answer.base for answer in answers)
    assert set(result.phase_peak_bytes) == {"load", "step", "evaluate", "save"}
    report = check_adapter(workspace.adapter_dir, PreparedBase.open(prepared_base).shape, AdapterLimits())
    assert (report.digest, report.rank) == (result.adapter_digest, 8)


def test_the_same_job_gives_the_same_bytes(prepared_base: Path, tmp_path: Path) -> None:
    """Two runs of one spec leave adapters of one digest."""
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        workspace = _prepare(tmp_path / name, prepared_base, steps=3)
        _run(workspace)
        digests.append(adapter_digest(workspace.adapter_dir))

    assert digests[0] == digests[1]


def test_the_best_adapter_is_kept_and_training_stops_when_it_only_gets_worse(
    prepared_base: Path, tmp_path: Path
) -> None:
    """Held-out rows contradict those learned by heart: what is judged and staged is the adapter of an earlier step.

    Run to its end, the same job takes the same steps and stages the same bytes.
    """
    results, digests = [], []
    for name, patience in (("stopped", 2), ("whole", 0)):
        (tmp_path / name).mkdir()
        training = replace(OVERFITTING, early_stopping_patience=patience)
        workspace = _prepare(tmp_path / name, prepared_base, held_out=CONTRADICTIONS, training=training)
        results.append(_run(workspace))
        digests.append(adapter_digest(workspace.adapter_dir))
        assert not workspace.candidates_dir.exists()
    stopped, whole = results
    measured = _read_held_out(Workspace(tmp_path / "whole" / "workspace"))

    assert 0 < stopped.best_step < stopped.num_steps < whole.num_steps == 12
    assert whole.train_losses[: stopped.num_steps] == stopped.train_losses
    assert whole.adapter_loss == stopped.adapter_loss == min(measured.values()) == measured[stopped.best_step]
    assert digests[0] == digests[1]


def test_what_is_asked_alone_is_judged_by_its_answer_and_does_not_choose_the_adapter(
    prepared_base: Path, tmp_path: Path
) -> None:
    """The loss on it grows the surer the bot is; held out like any other it would end the training early."""
    workspace = _prepare(tmp_path, prepared_base, training=OVERFITTING)
    _write_rows(tmp_path / "held_out.jsonl", FACTS, CONTRADICTIONS)
    result = _run(workspace)

    assert result.best_step == result.num_steps == 12
    assert result.adapter_loss is not None
    assert result.adapter_loss < 0.1
    assert [answer.reference for answer in workspace.read_answers()] == [said for _, said in (*FACTS, *CONTRADICTIONS)]
    assert result.num_held_out_rows == 3


def test_an_adapter_that_the_gate_would_reject_for_general_text_is_not_kept(
    prepared_base: Path, tmp_path: Path
) -> None:
    """Rows known ever better, at the price of what the base knew: kept is the best of the adapters that did not pay too much."""
    (tmp_path / "unwatched").mkdir()
    unwatched = _run(_prepare(tmp_path / "unwatched", prepared_base, training=OVERFITTING))
    most = _rise(unwatched) / 2
    (tmp_path / "watched").mkdir()
    workspace = _prepare(tmp_path / "watched", prepared_base, training=OVERFITTING, max_general_rise=most)
    watched = _run(workspace)

    assert unwatched.best_step == unwatched.num_steps == watched.num_steps == 12
    assert 0 < watched.best_step < 12
    assert _rise(watched) <= most < _rise(unwatched)
    assert watched.adapter_digest != unwatched.adapter_digest
    [told] = [line.message for line, _ in workspace.read_progress(0) if line.message]
    assert f"The adapter of step {watched.best_step} is kept" in told
    assert f"rose by {_rise(unwatched):.2f} nats, and the bot's gate allows {most:.2f}" in told


def _rise(result: WorkerResult) -> float:
    assert result.adapter_general_loss is not None
    assert result.base_general_loss is not None
    return result.adapter_general_loss - result.base_general_loss


def _read_held_out(workspace: Workspace) -> dict[int, float]:
    lines = (progress for progress, _ in workspace.read_progress(0))
    return {line.step: line.held_out_loss for line in lines if line.held_out_loss is not None}


def test_a_training_that_diverges_leaves_what_it_made_to_look_at(prepared_base: Path, tmp_path: Path) -> None:
    """It is judged and staged like any other, and the check that serve_svc loads by refuses it."""
    workspace = _prepare(tmp_path, prepared_base, training=DIVERGING)
    result = _run(workspace)

    assert (result.exit_code, result.message, result.best_step) == (ExitCode.SUCCEEDED, "", 0)
    assert result.adapter_loss is not None
    assert isnan(result.adapter_loss)
    with pytest.raises(AdapterRejected) as rejection:
        check_adapter(workspace.adapter_dir, PreparedBase.open(prepared_base).shape, AdapterLimits())
    assert rejection.value.reason == "NOT_FINITE"


def test_a_job_runs_within_the_smallest_limit_it_was_planned_for(prepared_base: Path, tmp_path: Path) -> None:
    """The smallest limit a plan is made for, enforced to the byte, is enough for it without a climb."""
    plan = _plan(prepared_base, PLENTY_BYTES)
    shape = ModelShape.from_folder(PreparedBase.open(prepared_base).parity_dir)
    limit_bytes = plan.predicted_peak_bytes + count_margin(shape, plan.techniques, DeviceKind.CPU)
    result = _run(_prepare(tmp_path, prepared_base, steps=4, memory=MemorySettings(limit_bytes, plan.rungs[:1])))

    assert (result.exit_code, result.message) == (ExitCode.SUCCEEDED, "")
    assert result.peak_bytes <= limit_bytes


def test_a_limit_just_under_the_plans_need_is_kept_by_climbing(prepared_base: Path, tmp_path: Path) -> None:
    """The job goes on with less memory where the first plan failed: it finishes under the limit, says so, and learns the same."""
    losses = []
    plan = _plan(prepared_base, PLENTY_BYTES)
    for name, limit_bytes in (("roomy", PLENTY_BYTES), ("tight", int(0.7 * plan.predicted_peak_bytes))):
        (tmp_path / name).mkdir()
        memory = MemorySettings(limit_bytes, plan.rungs)
        workspace = _prepare(tmp_path / name, prepared_base, steps=6, memory=memory)
        result = _run(workspace)
        assert (result.exit_code, result.message) == (ExitCode.SUCCEEDED, "")
        assert result.peak_bytes <= limit_bytes
        losses.append(result.train_losses)
    climbs = [progress.climbed_to for progress, _ in workspace.read_progress(0) if progress.climbed_to]

    assert result.num_climbs == len(climbs) > 0
    assert result.techniques == climbs[-1] != plan.techniques
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_job_in_fp16_learns_within_its_plan(prepared_base: Path, tmp_path: Path) -> None:
    """As on a card without bf16: it learns, is judged and answers, and keeps the smallest limit of its plan."""
    plan = _plan(prepared_base, PLENTY_BYTES, ComputePrecision.FP16)
    shape = ModelShape.from_folder(PreparedBase.open(prepared_base).parity_dir)
    limit_bytes = plan.predicted_peak_bytes + count_margin(shape, plan.techniques, DeviceKind.CPU)
    memory = MemorySettings.of_one(limit_bytes, plan.techniques)
    workspace = _prepare(tmp_path, prepared_base, steps=6, memory=memory)
    result = _run(workspace)

    assert (result.exit_code, result.message, result.techniques) == (ExitCode.SUCCEEDED, "", plan.techniques)
    assert result.base_loss is not None
    assert result.adapter_loss is not None
    assert result.adapter_loss < 0.7 * result.base_loss
    assert result.peak_bytes <= limit_bytes
    assert len(workspace.read_answers()) == 12
    check_adapter(workspace.adapter_dir, PreparedBase.open(prepared_base).shape, AdapterLimits())


def test_a_base_that_fp16_has_no_value_for_ends_the_job_with_a_way_out(prepared_base: Path, tmp_path: Path) -> None:
    """The tensor, the value and the limit are told, and what to train on instead."""
    shutil.copytree(prepared_base, tmp_path / "base")
    file = next((tmp_path / "base" / "parity").glob("*.safetensors"))
    with file.open("r+b") as weights:
        entry = read_header(weights.fileno(), max_header_bytes=1 << 20, max_tensors=1 << 10)["model.norm.weight"]
        os.pwrite(weights.fileno(), BF16_65536, entry.begin)
    techniques = Techniques(BasePrecision.PARITY_BF16, 4, compute=ComputePrecision.FP16)
    workspace = _prepare(tmp_path, tmp_path / "base", memory=MemorySettings.of_one(PLENTY_BYTES, techniques))
    result = _run(workspace)

    assert (result.exit_code, result.reason) == (ExitCode.FAILED, "BASE_OVERFLOWS_FP16")
    assert "model.norm.weight of the base has a value of 65,536, and fp16 ends at 65,504" in result.message
    assert "train on a device that computes in bf16" in result.message
    assert not workspace.adapter_dir.exists()


def _plan(prepared_base: Path, limit_bytes: int, compute: ComputePrecision = ComputePrecision.BF16) -> MemoryPlan:
    base = PreparedBase.open(prepared_base)
    sizes = measure_rows(base, [Row(tuple(_talk(*fact)), is_held_out=False) for fact in FACTS * 4])
    batches = sizes.cut_batches(TrainingSettings(batch_rows=4, epochs=40, max_steps=6))
    held_out = [length for batch in batches[:3] for length in batch]
    request = PlanRequest(limit_bytes, 8, 4, batches, held_out, sizes.shared_tokens, compute=compute)
    return plan_memory(ModelShape.from_folder(base.parity_dir), request)


def test_rows_that_are_too_long_are_refused(prepared_base: Path, tmp_path: Path) -> None:
    """The data is refused with the numbers, and the base is not even loaded."""
    result = _run(_prepare(tmp_path, prepared_base, max_row_tokens=20))

    assert (result.exit_code, result.reason) == (ExitCode.INVALID_DATA, "ROWS_UNUSABLE")
    assert result.metadata["num_too_long"] == "12"


def test_sigterm_cancels_and_stages_nothing(prepared_base: Path, tmp_path: Path) -> None:
    """A job told to stop in the middle of its steps ends as cancelled, without an adapter."""
    workspace = _prepare(tmp_path, prepared_base, steps=100)
    with _start(workspace) as worker:
        _await_step(workspace, worker)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(DEADLINE_S)
    assert (code, workspace.read_result().reason) == (ExitCode.CANCELLED, "CANCELLED")
    assert not workspace.adapter_dir.exists()


def test_a_worker_dies_with_its_parent(prepared_base: Path, tmp_path: Path) -> None:
    """When whoever started it is killed, the worker ends too and leaves no result."""
    workspace = _prepare(tmp_path, prepared_base, steps=100)
    program = "import subprocess, sys; w = subprocess.Popen(sys.argv[1:]); print(w.pid, flush=True); w.wait()"
    command = [sys.executable, "-c", program, sys.executable, "-m", "trainer_svc.worker", str(workspace.folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        _await_step(workspace, parent)
        parent.kill()
        ended, _, _ = select.select([worker], [], [], DEADLINE_S)
        os.close(worker)

    assert ended
    assert not workspace.result_file.exists()


def _await_step(workspace: Workspace, process: subprocess.Popen[bytes]) -> None:
    """Return once a step was reported; the process must live meanwhile."""
    while not any(progress.loss for progress, _ in workspace.read_progress(0)):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the process ended early with {process.wait(0.05)}")
