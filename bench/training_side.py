"""One side of the training measurement: a program that trains what a workspace asks for, run in a child process and measured.

Both sides leave the same files, so both are read by the same code. Memory is measured from outside, in the same way for both: what a
trainer says of itself rests on how it maps its files.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import harmonic_mean

from adaptory.core.errors import ServiceError
from adaptory.core.prompting import RenderedRow
from bench.cpu_clock import CpuClock
from trainer_svc.jobs.workspace import Progress, WorkerSpec, Workspace

_POLL_S = 0.1
_BASELINE_POLL_S = 0.01
_NUM_LOG_LINES = 15
_KILOBYTE = 1024


@dataclass(frozen=True, slots=True)
class Side:
    """What one side did with some rows.

    Speeds are of all steps but the first, which warms up; tokens are those of the rows, without padding, a shared one once a row.
    `process_peak_bytes` is the peak of all resident memory, mapped files included; `peak_bytes` what of it came on top of the
    program with its libraries loaded, before rows and base. `losses` are means over the learned tokens of each step.
    `foreign_cpu_share` is how much of all cores' time went to other processes and other virtual machines meanwhile: with much of
    it, speeds say little.
    """

    program: str
    base_precision: str
    rows_per_second: float
    tokens_per_second: float
    peak_bytes: int
    process_peak_bytes: int
    losses: list[float]
    step_seconds: list[float]
    foreign_cpu_share: float

    @property
    def mean_loss(self) -> float:
        """Mean of the steps' losses."""
        return sum(self.losses) / len(self.losses)

    def pool(self, again: "Side") -> "Side":
        """Return both runs of the same rows as one: speeds over the time of both, the larger of peaks and disturbance."""
        return replace(
            self,
            rows_per_second=harmonic_mean((self.rows_per_second, again.rows_per_second)),
            tokens_per_second=harmonic_mean((self.tokens_per_second, again.tokens_per_second)),
            peak_bytes=max(self.peak_bytes, again.peak_bytes),
            process_peak_bytes=max(self.process_peak_bytes, again.process_peak_bytes),
            step_seconds=self.step_seconds + again.step_seconds,
            foreign_cpu_share=max(self.foreign_cpu_share, again.foreign_cpu_share),
        )


def run_side(program: str, spec: WorkerSpec, batches: Sequence[Sequence[RenderedRow]], folder: Path) -> Side:
    """Run `python -m PROGRAM WORKSPACE` and return what it did; `batches` are the rows of each step, the first included.

    Raises:
        ServiceError: It failed; the message has the end of its log.
    """
    workspace = Workspace(folder)
    workspace.create(spec)
    clock = CpuClock()
    memory = _run(program, workspace)
    foreign_cpu_share = clock.measure_foreign_share()
    result = workspace.read_result()
    steps = [progress for progress, _ in workspace.read_progress(0) if progress.step_seconds is not None]
    return Side(
        program=program,
        base_precision=spec.memory.techniques.base,
        rows_per_second=sum(map(len, batches[1:])) / _measure_seconds(steps),
        tokens_per_second=sum(len(row.ids) for rows in batches[1:] for row in rows) / _measure_seconds(steps),
        peak_bytes=memory.peak_bytes - memory.baseline_bytes,
        process_peak_bytes=memory.peak_bytes,
        losses=result.train_losses,
        step_seconds=[step.step_seconds or 0.0 for step in steps],
        foreign_cpu_share=foreign_cpu_share,
    )


def _measure_seconds(steps: Sequence[Progress]) -> float:
    return sum(step.step_seconds or 0.0 for step in steps[1:])


@dataclass(frozen=True, slots=True)
class _ResidentMemory:
    """Resident memory of a process: when its libraries were loaded, and at its peak after that."""

    baseline_bytes: int
    peak_bytes: int


def _run(program: str, workspace: Workspace) -> _ResidentMemory:
    """Run to the end and return what was seen of its memory."""
    baseline_bytes = peak_bytes = 0
    with _start(program, workspace) as process:
        # The first progress is written where loading begins; the last look before it is the baseline.
        while process.poll() is None and not workspace.progress_file.exists():
            baseline_bytes = _read_status_bytes(process.pid, "VmRSS")
            time.sleep(_BASELINE_POLL_S)
        # Read while it runs, for programs reset the kernel's mark at the beginning of each phase.
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _read_status_bytes(process.pid, "VmHWM"))
            time.sleep(_POLL_S)
    if process.returncode:
        log = "\n".join(workspace.log_file.read_text(encoding="utf-8").splitlines()[-_NUM_LOG_LINES:])
        raise ServiceError(f"{program} ended with code {process.returncode}. The end of its log:\n{log}")
    return _ResidentMemory(baseline_bytes, peak_bytes)


@contextmanager
def _start(program: str, workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program; it ends with the block at the latest."""
    # How long threads spin while they wait: our worker's own setting, given to both so that a busy machine slows neither more.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "3000"}
    command = [sys.executable, "-m", program, str(workspace.folder)]
    with (
        workspace.log_file.open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _read_status_bytes(pid: int, field: str) -> int:
    """Return a size of a process as the kernel tells it; 0 once it has ended and before it has memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _KILOBYTE
    return 0
