"""The answer to a question: the plans that fit, best first, as a value that can be written as JSON."""

from dataclasses import asdict

from trainer_svc.jobs.workspace import Rung
from trainer_svc.memory.planner import MemoryPlan
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.techniques import describe
from trainer_svc.plan.question import Reading


def write_answer(reading: Reading, request: PlanRequest, plans: list[MemoryPlan]) -> dict[str, object]:
    """Return the plans with all that they depend on: sizes in bytes, times in seconds."""
    question, shape, sizes = reading.question, reading.shape, reading.sizes
    return {
        "base": question.base or question.config,
        "model_type": shape.model_type,
        "num_parameters": shape.num_linear + shape.num_other,
        "is_trainable": shape.is_trainable,
        "method": question.method,
        "objective": question.objective,
        "device": reading.device,
        "limit_bytes": question.limit_bytes,
        "smallest_limit_bytes": plans[0].smallest_limit_bytes,
        "rows": {
            "trained": len(sizes.trained),
            "held_out": len(sizes.held_out),
            "longest_tokens": max(sizes.tokens),
            "shared_tokens": sizes.shared_tokens,
            "steps": len(request.batches),
        },
        "speed": asdict(request.effective_speed),
        "plans": [_write_plan(plan, request) for plan in plans],
    }


def _write_plan(plan: MemoryPlan, request: PlanRequest) -> dict[str, object]:
    return {
        "peak_bytes": plan.predicted_peak_bytes,
        "terms": plan.terms,
        "phases": plan.phases,
        "seconds": plan.seconds,
        "summary": describe(plan.techniques),
        "offloads": plan.techniques.offloads,
        "settings": {
            **asdict(plan.techniques),
            "rank": request.rank,
            "batch_rows": request.batch_rows,
            "accumulation": plan.accumulation,
        },
        "rungs": [_write_rung(rung) for rung in plan.rungs],
    }


def _write_rung(rung: Rung) -> dict[str, object]:
    return {"peak_bytes": rung.predicted_peak_bytes, "summary": describe(rung.techniques)}
