"""The worker on a CUDA device: run by hand where there is one, skipped elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adaptory.core.prompting import Message
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import write_row
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.planner import MemoryPlan, plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import (
    BasePrecision,
    ComputePrecision,
    DeviceKind,
    Home,
    MomentPrecision,
    Recompute,
    Techniques,
    describe,
)
from trainer_svc.worker.simulation import StepQuestion, simulate_step

pytestmark = pytest.mark.gpu

LIMIT_BYTES = 2 << 30
ROW = Row((Message("user", "Which code?"), Message("assistant", "QX-41.")), is_held_out=False)


@pytest.fixture
def device() -> str:
    """The name of the CUDA device."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device on this machine")
    return str(torch.cuda.get_device_name())


AWAY, FP16 = Home.HOST, ComputePrecision.FP16


@pytest.mark.parametrize(
    "techniques",
    [
        Techniques(BasePrecision.NF4, 4),
        Techniques(BasePrecision.PARITY_BF16, 4, Recompute.SELECTIVE),
        Techniques(BasePrecision.BF16, 4, Recompute.FULL),
        Techniques(BasePrecision.INT8, 4),
        Techniques(BasePrecision.NF4, 2, Recompute.FULL, 32, MomentPrecision.INT8),
        Techniques(BasePrecision.NF4, 2, Recompute.FULL, 32, MomentPrecision.FP32, AWAY, AWAY, AWAY),
        Techniques(BasePrecision.PARITY_BF16, 4, Recompute.NONE, 128, MomentPrecision.INT8, AWAY, Home.DISK, AWAY),
        Techniques(BasePrecision.NF4, 4, compute=FP16),
        Techniques(BasePrecision.BF16, 4, Recompute.SELECTIVE, compute=FP16),
        Techniques(BasePrecision.INT8, 2, Recompute.FULL, 32, MomentPrecision.INT8, compute=FP16),
        Techniques(BasePrecision.NF4, 2, Recompute.FULL, 32, MomentPrecision.FP32, AWAY, AWAY, AWAY, compute=FP16),
        Techniques(BasePrecision.PARITY_BF16, 4, frozen_home=AWAY, compute=FP16),
    ],
    ids=describe,
)
def test_a_job_learns_on_the_device_under_its_limit(
    device: str, prepared_base: Path, tmp_path: Path, techniques: Techniques
) -> None:
    """Every way to hold the base, to recompute and to offload trains on the card, under the limit, and says on which card."""
    result = _run(prepared_base, MemorySettings.of_one(LIMIT_BYTES, techniques), tmp_path)

    assert (result.exit_code, result.device) == (ExitCode.SUCCEEDED, device)
    assert result.train_losses[-1] < result.train_losses[0]
    assert 0 < result.peak_bytes <= LIMIT_BYTES


@pytest.mark.usefixtures("device")
def test_a_job_in_fp16_learns_as_in_bf16_in_what_was_planned(prepared_base: Path, tmp_path: Path) -> None:
    """As on a card below compute capability 8.0, with the attention it has: the first loss within 2 %, and the peak within 10 %."""
    results = []
    for compute in ComputePrecision:
        plan = _plan(prepared_base, compute)
        results.append(_run(prepared_base, MemorySettings(LIMIT_BYTES, plan.rungs[:1]), tmp_path / compute))
    in_bf16, in_fp16 = results

    assert (in_fp16.exit_code, in_fp16.techniques) == (ExitCode.SUCCEEDED, plan.techniques)
    assert in_fp16.train_losses[0] == pytest.approx(in_bf16.train_losses[0], rel=0.02)
    assert in_fp16.train_losses[-1] < 0.5 * in_fp16.train_losses[0]
    assert in_fp16.peak_bytes == pytest.approx(plan.predicted_peak_bytes, rel=0.1)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("compute", list(ComputePrecision))
def test_a_limit_under_the_plans_need_is_kept_by_climbing(
    prepared_base: Path, tmp_path: Path, compute: ComputePrecision
) -> None:
    """The allocator refuses, the job goes on with less memory, and it learns the same."""
    plan = _plan(prepared_base, compute)
    results = []
    for limit_bytes in (LIMIT_BYTES, int(0.7 * plan.predicted_peak_bytes)):
        results.append(_run(prepared_base, MemorySettings(limit_bytes, plan.rungs), tmp_path / str(limit_bytes)))
        assert (results[-1].exit_code, results[-1].message) == (ExitCode.SUCCEEDED, "")
        assert results[-1].peak_bytes <= limit_bytes

    roomy, tight = results
    assert (roomy.num_climbs, tight.num_climbs > 0) == (0, True)
    assert tight.train_losses == pytest.approx(roomy.train_losses, rel=0.02)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("precision", [BasePrecision.NF4, BasePrecision.PARITY_BF16])
@pytest.mark.parametrize("compute", list(ComputePrecision))
def test_a_step_can_be_simulated_for_the_device(
    prepared_base: Path, precision: BasePrecision, compute: ComputePrecision
) -> None:
    """The second opinion runs the same kernels, without values, on the device they are for."""
    config = json.loads((prepared_base / "original" / "config.json").read_text())
    techniques = Techniques(precision, 4, Recompute.FULL, compute=compute)
    question = StepQuestion(config, techniques, [[64] * 4], rank=8, device="cuda")

    assert simulate_step(question).peak_bytes > 100 << 20


def _plan(base: Path, compute: ComputePrecision) -> MemoryPlan:
    request = PlanRequest(
        LIMIT_BYTES, 8, 4, [[40] * 4] * 20, held_out=[40] * 8, device=DeviceKind.CUDA, compute=compute
    )
    return plan_memory(ModelShape.from_folder(base / "parity"), request)


def _run(base: Path, memory: MemorySettings, folder: Path) -> WorkerResult:
    folder.mkdir(exist_ok=True)
    rows = folder / "rows.jsonl"
    rows.write_text((write_row(ROW) + "\n") * 8)
    training = TrainingSettings(rank=8, alpha=16, batch_rows=4, epochs=10)
    workspace = Workspace(folder / "workspace")
    workspace.create(WorkerSpec("job", str(base), str(rows), str(rows), training, memory))
    subprocess.run([sys.executable, "-m", "trainer_svc.worker", str(workspace.folder)], check=False, timeout=240)
    return workspace.read_result()
