"""The promise of the product on a card: 7B in 8 GiB and 13B in 12 GiB, under the hard cap. Run by hand, skipped elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from adaptory.core.base_model import PreparedBase
from adaptory.core.catalogue import Catalogue
from adaptory.core.prompting import Message, Renderer
from bench.memory_cases import EMBEDDED, Case, list_cases
from bench.memory_run import Runner
from tests.gpu.random_base import write_random_base
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import write_row
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.planner import MemoryPlan, plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, DeviceKind

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]

GIB = 1 << 30
ROW_TOKENS = 2048
BATCH_ROWS = 2


@pytest.fixture(autouse=True)
def _on_a_card() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device on this machine")


@pytest.mark.parametrize(("name", "limit_gib"), [("llama-2-7b", 8), ("llama-2-13b", 12)])
def test_llama_2_trains_under_the_cap_it_is_planned_for(
    prepared_base: Path, tmp_path: Path, name: str, limit_gib: int
) -> None:
    """Random weights of the real sizes, rows of 2,048 tokens, nothing offloaded: no climb, and the peak is what was planned."""
    like = PreparedBase.open(prepared_base)
    # Rows are read by the small base's tokenizer, whose ids the table must hold.
    config = {**Catalogue.load().get(name).config, "vocab_size": 49152}
    base = write_random_base(name, config, like, tmp_path / "base")
    rows, lengths = _write_long_rows(like, tmp_path / "rows.jsonl")
    request = PlanRequest(
        limit_gib * GIB, 16, BATCH_ROWS, [lengths] * 2, held_out=lengths, device=DeviceKind.CUDA, may_offload=False
    )
    plan = plan_memory(ModelShape.from_config(config), request)

    result = _train(base, rows, plan, limit_gib * GIB, tmp_path / "workspace")

    assert (result.exit_code, result.message) == (ExitCode.SUCCEEDED, "")
    assert (result.num_climbs, result.num_steps) == (0, 2)
    assert result.peak_bytes <= limit_gib * GIB
    assert result.peak_bytes == pytest.approx(plan.predicted_peak_bytes, rel=0.1)


def test_predictions_are_as_near_on_the_card(prepared_base: Path, tmp_path: Path) -> None:
    """The cases of the memory measurement on the embedded base, on CUDA: 5 % off on average, 10 % at most."""
    base = PreparedBase.open(prepared_base)
    runner = Runner(tmp_path, None, DeviceKind.CUDA)
    cases = [case for case in list_cases() if case.base == EMBEDDED and _is_for_cards(case)]

    errors = [abs(runner.run(case, base, number).error) for number, case in enumerate(cases)]

    assert sum(errors) / len(errors) <= 0.05
    assert max(errors) <= 0.1


def _is_for_cards(case: Case) -> bool:
    return case.techniques.base is not BasePrecision.PARITY_BF16


def _write_long_rows(like: PreparedBase, path: Path) -> tuple[Path, list[int]]:
    """Write a batch of rows of 2,048 tokens or a little less, and return their lengths."""
    renderer = Renderer.from_files(like.tokenizer_file, like.chat_template, like.end_of_turn)
    turns = [Message("user", "Tell all."), Message("assistant", "word " * 1980)]
    length = len(renderer.render_row(turns).ids)
    assert ROW_TOKENS - 128 < length <= ROW_TOKENS
    line = write_row(Row(tuple(turns), is_held_out=False))
    # One word apart, or the rows would share all they have.
    path.write_text("".join(line.replace("Tell all", f"Tell {place}") + "\n" for place in range(BATCH_ROWS)))
    return path, [length] * BATCH_ROWS


def _train(base: PreparedBase, rows: Path, plan: MemoryPlan, limit_bytes: int, folder: Path) -> WorkerResult:
    training = TrainingSettings(rank=16, batch_rows=BATCH_ROWS, epochs=2, max_row_tokens=ROW_TOKENS)
    workspace = Workspace(folder)
    memory = MemorySettings(limit_bytes, plan.rungs)
    workspace.create(WorkerSpec("job", str(base.folder), str(rows), str(rows), training, memory))
    subprocess.run([sys.executable, "-m", "trainer_svc.worker", str(folder)], check=False)
    return workspace.read_result()
