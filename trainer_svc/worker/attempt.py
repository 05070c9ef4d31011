"""One attempt at one job, from its folder to an exit code.

Owns how a worker ends; what it does is `pipeline`, or `given` where it trains nothing. SIGTERM cancels. It dies with its parent, so
it must be started by a thread that lives as long as the worker should (PR_SET_PDEATHSIG follows the thread, not the process).
"""

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from adaptory.core.errors import AdapterRejected, InvalidRequest, ServiceError
from trainer_svc.jobs.workspace import ExitCode, WorkerResult, WorkerSpec, Workspace
from trainer_svc.worker.device import is_out_of_memory, open_device, settle_process
from trainer_svc.worker.given import judge_given
from trainer_svc.worker.ladder import KernelsLost
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.pipeline import run

_PR_SET_PDEATHSIG = 1


class Cancelled(BaseException):
    """SIGTERM came. Not an Exception, so that nothing on the way handles it."""


def attempt_job(folder: Path) -> ExitCode:
    """Run the attempt in `folder`, leave its result there, and return the exit code."""
    _follow_parent()
    signal.signal(signal.SIGTERM, _cancel)
    workspace = Workspace(folder)
    try:
        workspace.beat()
        spec = workspace.read_spec()
        settle_process(spec.memory.techniques.kernel_sizes)
        result = _attempt(workspace, spec)
    except Cancelled:
        result = _describe_cancel()
    except KernelsLost as lost:
        workspace.shorten_ladder(spec, lost.place)
        _begin_anew()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    workspace.write_result(result)
    return result.exit_code


def _attempt(workspace: Workspace, spec: WorkerSpec) -> WorkerResult:
    """Run under the memory limit; every way to fail becomes a result, but KernelsLost."""
    device, memory = open_device()
    meter = Meter(workspace, memory)
    try:
        memory.limit(spec.memory.limit_bytes)
        work = judge_given if spec.given_adapter else run
        return work(spec, workspace, device, memory, meter)
    except Cancelled:
        return _describe_cancel(meter)
    except KernelsLost:
        memory.lift()
        raise
    except Exception as err:
        memory.lift()
        logging.getLogger(__name__).exception("the attempt failed")
        return _describe_failure(err, spec, meter)


def _describe_failure(err: Exception, spec: WorkerSpec, meter: Meter) -> WorkerResult:
    if is_out_of_memory(err):
        limit_bytes = spec.memory.limit_bytes
        exit_code, reason = ExitCode.OUT_OF_MEMORY, "OUT_OF_MEMORY"
        metadata = {"limit_bytes": str(limit_bytes), "peak_bytes": str(meter.peak_bytes)}
        message = (
            f"the job took {meter.peak_bytes:,} bytes and asked for more; its limit is {limit_bytes:,}:"
            " raise the limit, or train with fewer rows a batch"
        )
    elif isinstance(err, ServiceError):
        exit_code, reason, message, metadata = _exit_code_of(err), err.reason, err.message, err.metadata
    else:
        exit_code, reason, metadata = ExitCode.FAILED, "WORKER_FAILED", {"error": type(err).__name__}
        message = f"the worker failed with {type(err).__name__}; its log has the trace"
    return WorkerResult(
        exit_code=exit_code,
        reason=reason,
        message=message,
        metadata=metadata,
        train_losses=meter.train_losses,
        num_steps=len(meter.train_losses),
        peak_bytes=meter.peak_bytes,
        phase_peak_bytes=meter.phase_peak_bytes,
    )


def _describe_cancel(meter: Meter | None = None) -> WorkerResult:
    num_steps = len(meter.train_losses) if meter else 0
    return WorkerResult(
        ExitCode.CANCELLED, reason="CANCELLED", message=f"cancelled after {num_steps} steps", num_steps=num_steps
    )


def _exit_code_of(err: ServiceError) -> ExitCode:
    if isinstance(err, AdapterRejected):
        return ExitCode.ADAPTER_REJECTED
    return ExitCode.INVALID_DATA if isinstance(err, InvalidRequest) else ExitCode.FAILED


def _begin_anew() -> NoReturn:
    """Go on as a new process of the same number, so that whoever waits for this one waits for that one."""
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


def _cancel(_signal: int, _frame: FrameType | None) -> None:
    raise Cancelled


def _follow_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before we asked. Only a change tells: in a container the trainer itself is process 1.
    if os.getppid() != parent:
        sys.exit(ExitCode.CANCELLED)
