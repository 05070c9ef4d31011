"""Has the worker simulate the step of a plan, in a child with its libraries."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict

from adaptory.core.errors import FailedPrecondition, InvalidRequest
from trainer_svc.memory.planner import MemoryPlan
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.techniques import Method, Objective, Techniques
from trainer_svc.memory.workload import find_largest
from trainer_svc.plan.question import Reading

_TIMEOUT_S = 600


def simulate(reading: Reading, request: PlanRequest, plan: MemoryPlan) -> dict[str, object]:
    """Return what a plan's step takes. Raises as `simulate_techniques`, and InvalidRequest for what the worker does not train."""
    _require_trainable(reading, request)
    return simulate_techniques(reading.config, plan.techniques, request)


def simulate_techniques(
    config: Mapping[str, object], techniques: Techniques, request: PlanRequest
) -> dict[str, object]:
    """Return what the worker's own step takes on the largest micro-batch: `peak_bytes`, and `parts` that add up to it.

    Raises FailedPrecondition without the worker's libraries, or for a device they were not built for.
    """
    question = {
        "config": dict(config),
        "techniques": asdict(techniques),
        "micro_batches": [list(find_largest(request, techniques.micro_batch_rows))],
        "rank": request.rank,
        "shared_tokens": request.shared_tokens,
        "device": request.device,
    }
    command = [sys.executable, "-m", "trainer_svc.worker.simulation"]
    ended = subprocess.run(  # noqa: S603 - ours
        command, input=json.dumps(question), capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        message = (
            f"The step could not be simulated for {request.device} here ({last[0]}); it needs the training libraries, built for that "
            "device. Leave --simulate out, or plan for this machine's device."
        )
        raise FailedPrecondition(message, reason="SIMULATION_FAILED", metadata={"device": request.device})
    answer: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def _require_trainable(reading: Reading, request: PlanRequest) -> None:
    """Raise InvalidRequest unless the worker has a step for the base, the method and the objective."""
    problem = ""
    if not reading.shape.is_trainable:
        problem = f"{reading.shape.model_type} models are planned but not trained by this release"
    elif request.method is Method.FULL or request.objective is not Objective.SFT:
        problem = f"{request.method} by {request.objective} is planned but not trained by this release"
    if problem:
        raise InvalidRequest.of_field("--simulate", f"runs the worker's own step, but {problem}")
