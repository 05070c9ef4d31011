"""What the end of a worker means: a result to publish, or the error of the job with its numbers and the way out."""

from adaptory.core.errors import AdapterRejected, InvalidRequest, ServiceError, TooLarge, Unavailable
from trainer_svc.jobs.job import JobPlan
from trainer_svc.jobs.workspace import ExitCode, Phase, WorkerResult, Workspace
from trainer_svc.memory.techniques import describe


class WorkerLost(Unavailable):
    """The worker was ended from outside, or broke: another attempt may succeed."""

    default_reason = "WORKER_LOST"


class WorkerHung(ServiceError):
    """The worker gave no sign of life for too long and was killed."""

    default_reason = "WORKER_HUNG"


class TrainingFailed(ServiceError):
    """The worker said that it failed, and why."""

    default_reason = "TRAINING_FAILED"


class OutOfMemory(TooLarge):
    """The job used up its memory limit.

    Metadata has the phase, both peaks, the limit, the climbs, and the plan that takes least with the limit predicted to do for it.
    """

    default_reason = "OUT_OF_MEMORY"


def read_result(workspace: Workspace, exit_code: int) -> WorkerResult:
    """Return what an ended worker left. Raises WorkerLost when it left nothing, or was ended from outside."""
    if exit_code not in set(ExitCode) - {ExitCode.CANCELLED}:
        raise WorkerLost(_tell_of_loss(exit_code), metadata={"exit_code": exit_code})
    try:
        return workspace.read_result()
    except (OSError, KeyError, TypeError, ValueError) as error:
        message = f"The worker ended with code {exit_code} and left no result that can be read."
        raise WorkerLost(message, metadata={"exit_code": exit_code}) from error


def require_success(result: WorkerResult, plan: JobPlan) -> None:
    """Raise the job's error unless the worker succeeded."""
    match result.exit_code:
        case ExitCode.SUCCEEDED:
            return
        case ExitCode.OUT_OF_MEMORY:
            raise _out_of_memory(result, plan)
        case ExitCode.INVALID_DATA:
            raise InvalidRequest(result.message, reason=result.reason or "INVALID_DATA", metadata=result.metadata)
        case ExitCode.ADAPTER_REJECTED:
            raise AdapterRejected(result.message, reason=result.reason or None, metadata=result.metadata)
        case _:
            raise TrainingFailed(result.message, reason=result.reason or None, metadata=result.metadata)


def _tell_of_loss(exit_code: int) -> str:
    if exit_code < 0:
        return f"The worker was ended by signal {-exit_code}; 9 is how a machine without free memory ends processes."
    return f"The worker ended with code {exit_code}, which is none of a worker's own."


def _out_of_memory(result: WorkerResult, plan: JobPlan) -> OutOfMemory:
    phase = next(reversed(result.phase_peak_bytes), Phase.LOAD)
    nearest = describe(plan.rungs[-1].techniques)
    climbs = f"{result.num_climbs} time{'' if result.num_climbs == 1 else 's'}"
    message = (
        f"The job ran out of memory in phase {phase}: its peak was {result.peak_bytes} bytes, predicted were "
        f"{plan.predicted_peak_bytes}, its limit is {plan.limit_bytes}; it had gone on with less {climbs}. "
        f"The plan that takes least ({nearest}) is predicted to need {plan.smallest_limit_bytes}. Submit it again with a higher "
        "limit, fewer batch_rows or a lower max_row_tokens."
    )
    numbers = {
        "phase": phase,
        "peak_bytes": result.peak_bytes,
        "limit_bytes": plan.limit_bytes,
        "num_climbs": result.num_climbs,
        "predicted_peak_bytes": plan.predicted_peak_bytes,
        "smallest_limit_bytes": plan.smallest_limit_bytes,
        "nearest_plan": nearest,
    }
    return OutOfMemory(message, metadata={**result.metadata, **numbers})
