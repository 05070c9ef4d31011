"""The limit of a worker: ended by it, and within it though micro-batches come in many sizes, each of which takes kernels."""

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Message
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import write_row
from trainer_svc.jobs.row_sizes import measure_rows
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.estimator import count_margin
from trainer_svc.memory.planner import MemoryPlan, plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Techniques

REPOSITORY = Path(__file__).parents[2]
PLENTY_BYTES = 4 << 30
DEADLINE_S = 280
NUM_BATCHES, BATCH_ROWS = 9, 4
TRAINING = TrainingSettings(rank=8, alpha=16, batch_rows=BATCH_ROWS, epochs=1, max_row_tokens=512)
WORKER = [sys.executable, "-m", "trainer_svc.worker"]
# A worker whose matrix library makes no more kernels after its third micro-batch, in whichever process a marker is not there yet.
BREAKING_WORKER = """
import sys
from pathlib import Path
from trainer_svc.worker.__main__ import main
from trainer_svc.worker.rig import Rig

marker, pack, num_packs = Path(sys.argv[1]) / "broken", Rig.pack, iter(range(1000))

def break_third(rig, rows):
    if not marker.exists() and next(num_packs) == 2:
        marker.touch()
        raise RuntimeError("could not create a primitive")
    return pack(rig, rows)

Rig.pack = break_third
sys.exit(main())
"""


def _make_rows() -> list[Row]:
    """Return rows whose batches, whatever their order, hardly ever have as many nodes as another."""
    lengths = accumulate(range(NUM_BATCHES * BATCH_ROWS), lambda length, step: length + step % 3, initial=1)
    texts = (" ".join(f"word{place}" for place in range(length)) for length in lengths)
    rows = [(Message("user", f"Say {number}."), Message("assistant", text)) for number, text in enumerate(texts)]
    return [Row(messages, is_held_out=False) for messages in rows[: NUM_BATCHES * BATCH_ROWS]]


def _plan(base: PreparedBase, limit_bytes: int) -> MemoryPlan:
    sizes = measure_rows(base, _make_rows())
    held_out = sorted(length for batch in sizes.cut_batches(TRAINING) for length in batch)[:BATCH_ROWS]
    request = PlanRequest(limit_bytes, 8, BATCH_ROWS, sizes.cut_batches(TRAINING), held_out, sizes.shared_tokens)
    return plan_memory(ModelShape.from_folder(base.parity_dir), request)


def _prepare(folder: Path, base: Path, memory: MemorySettings) -> Workspace:
    lines = list(map(write_row, _make_rows()))
    files = [folder / "rows.jsonl", folder / "held_out.jsonl"]
    for file, chosen in zip(files, (lines, lines[:BATCH_ROWS]), strict=True):
        file.write_text("\n".join(chosen))
    workspace = Workspace(folder / "workspace")
    workspace.create(WorkerSpec("job", str(base), str(files[0]), str(files[1]), TRAINING, memory))
    return workspace


def _run(workspace: Workspace, command: list[str]) -> WorkerResult:
    ended = subprocess.run(
        [*command, str(workspace.folder)], cwd=REPOSITORY, check=False, timeout=DEADLINE_S, stderr=subprocess.DEVNULL
    )
    result = workspace.read_result()
    assert ended.returncode == result.exit_code
    return result


def test_over_its_limit_a_job_ends_and_says_both_numbers(prepared_base: Path, tmp_path: Path) -> None:
    """The allocation beyond the limit fails; the result has the limit and the peak, and nothing is staged."""
    limit_bytes = 150 << 20
    techniques = Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=BATCH_ROWS)
    workspace = _prepare(tmp_path, prepared_base, MemorySettings.of_one(limit_bytes, techniques))
    result = _run(workspace, WORKER)

    assert (result.exit_code, result.reason) == (ExitCode.OUT_OF_MEMORY, "OUT_OF_MEMORY")
    assert result.metadata == {"limit_bytes": str(limit_bytes), "peak_bytes": str(result.peak_bytes)}
    assert 0 < result.peak_bytes <= limit_bytes
    assert not workspace.adapter_dir.exists()


def test_kernels_of_more_sizes_than_are_kept_are_in_the_plan(prepared_base: Path, tmp_path: Path) -> None:
    """What stays of each size for good is counted too: the job takes what its plan says, and the smallest limit for it is enough."""
    base = PreparedBase.open(prepared_base)
    plan = _plan(base, PLENTY_BYTES)
    margin_bytes = count_margin(ModelShape.from_folder(base.parity_dir), plan.techniques, DeviceKind.CPU)
    memory = MemorySettings(plan.predicted_peak_bytes + margin_bytes, plan.rungs)
    result = _run(_prepare(tmp_path, prepared_base, memory), WORKER)

    assert (result.exit_code, result.num_climbs) == (ExitCode.SUCCEEDED, 0)
    # What the allocator's holes take differs between machines: 1 to 8 % below the plan were seen. Above it a limit would not be kept.
    assert 0.88 * plan.predicted_peak_bytes < result.peak_bytes < 1.02 * plan.predicted_peak_bytes


def test_a_job_that_meets_a_size_without_room_for_its_kernels_climbs(prepared_base: Path, tmp_path: Path) -> None:
    """The room is missed before the library misses it, which it would not survive."""
    plan = _plan(PreparedBase.open(prepared_base), PLENTY_BYTES)
    limit_bytes = round(0.95 * plan.predicted_peak_bytes)
    result = _run(_prepare(tmp_path, prepared_base, MemorySettings(limit_bytes, plan.rungs)), WORKER)

    assert (result.exit_code, result.message) == (ExitCode.SUCCEEDED, "")
    assert result.num_climbs > 0
    assert result.peak_bytes <= limit_bytes


def test_a_worker_without_kernels_goes_on_in_a_new_process(prepared_base: Path, tmp_path: Path) -> None:
    """It is one process number to whoever waits, tells of the climb, and trains every step by the next rung."""
    plan = _plan(PreparedBase.open(prepared_base), PLENTY_BYTES)
    workspace = _prepare(tmp_path, prepared_base, MemorySettings(PLENTY_BYTES, plan.rungs))
    result = _run(workspace, [sys.executable, "-c", BREAKING_WORKER])
    climbs = [progress.climbed_to for progress, _ in workspace.read_progress(0) if progress.climbed_to]

    assert (workspace.folder / "broken").exists()
    assert (result.exit_code, result.num_steps) == (ExitCode.SUCCEEDED, NUM_BATCHES)
    assert [result.techniques] == climbs
    assert climbs[0] != plan.techniques
