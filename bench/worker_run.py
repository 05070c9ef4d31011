"""Runs the worker on one spec, in a fresh process, as the service does."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from adaptory.core.errors import ServiceError
from trainer_svc.jobs.workspace import ExitCode, WorkerResult, Workspace

WORKER = (sys.executable, "-m", "trainer_svc.worker")


def run_worker(workspace: Workspace, command: Sequence[str] = WORKER) -> WorkerResult:
    """Run the worker in a workspace that was created; what it logs lies there, too. Raises what reading its result raises."""
    with workspace.log_file.open("w") as log:
        subprocess.run([*command, str(workspace.folder)], check=False, stderr=log)
    return workspace.read_result()


def require_ended_well(result: WorkerResult, *ends: ExitCode) -> WorkerResult:
    """Return the result. Raises ServiceError, with what the worker said, unless it ended in one of these ways."""
    if result.exit_code not in ends:
        raise ServiceError(f"A worker failed: {result.message}", reason=result.reason, metadata=result.metadata)
    return result


def name_rows(folder: Path) -> tuple[Path, Path]:
    """Return the files of the rows to train on and of those held out, in a folder that is there."""
    return folder / "train.jsonl", folder / "held_out.jsonl"
