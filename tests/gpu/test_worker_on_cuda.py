"""The worker on a CUDA device: run by hand where there is one, skipped elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerSpec, Workspace
from trainer_svc.memory.techniques import BasePrecision, Techniques

pytestmark = pytest.mark.gpu

LIMIT_BYTES = 2 << 30
ROW = '{"messages": [{"role": "user", "content": "Which code?"}, {"role": "assistant", "content": "QX-41."}]}\n'


@pytest.fixture
def device() -> str:
    """The name of the CUDA device."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device on this machine")
    return str(torch.cuda.get_device_name())


@pytest.mark.parametrize(
    "precision", [BasePrecision.NF4, BasePrecision.PARITY_BF16, BasePrecision.BF16, BasePrecision.INT8]
)
def test_a_job_learns_on_the_device_under_its_limit(
    device: str, prepared_base: Path, tmp_path: Path, precision: BasePrecision
) -> None:
    """Both ways to hold the base train on the card, stay under the limit, and say on which card."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROW * 8)
    memory = MemorySettings.of_one(LIMIT_BYTES, Techniques(precision, micro_batch_rows=4))
    training = TrainingSettings(rank=8, alpha=16, batch_rows=4, epochs=10)
    workspace = Workspace(tmp_path / "workspace")
    workspace.create(WorkerSpec("job", str(prepared_base), str(rows), str(rows), training, memory))

    subprocess.run([sys.executable, "-m", "trainer_svc.worker", workspace.folder], check=False, timeout=240)

    result = workspace.read_result()
    assert (result.exit_code, result.device) == (ExitCode.SUCCEEDED, device)
    assert result.train_losses[-1] < result.train_losses[0]
    assert 0 < result.peak_bytes <= LIMIT_BYTES
