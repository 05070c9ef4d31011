"""Ranks the ways to train that fit a memory limit, or names the smallest limit that would do and the changes that would make it fit.

What each takes is `estimator`'s, how long `duration`'s, which are preferred `candidates`', what would help `changes`'.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from adaptory.core.errors import DoesNotFit
from trainer_svc.jobs.workspace import Rung
from trainer_svc.memory.candidates import list_candidates, rate_preference
from trainer_svc.memory.changes import Change, propose_changes
from trainer_svc.memory.estimator import Estimate
from trainer_svc.memory.ladder import build_ladder
from trainer_svc.memory.pricing import Pricing
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Techniques

NUM_RANKED = 5


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a job keeps its limit; `terms` add up to the peak of a step. The effective batch is the same in every plan.

    `seconds` are those of all steps and of judging, as expected from the device's speed.
    """

    techniques: Techniques
    terms: dict[str, int]
    phases: dict[str, int]
    seconds: float
    accumulation: int
    smallest_limit_bytes: int
    rungs: tuple[Rung, ...]

    @property
    def predicted_peak_bytes(self) -> int:
        """The largest phase."""
        return max(self.phases.values())


@dataclass(frozen=True, slots=True)
class _Candidate:
    techniques: Techniques
    found: Estimate
    seconds: float
    needed_bytes: int

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """What orders candidates: preference, then speed, then size."""
        return (*rate_preference(self.techniques), self.seconds, self.found.peak_bytes)


def plan_memory(shape: ModelShape, request: PlanRequest) -> MemoryPlan:
    """Return the best plan that fits. Raises as `rank_plans`."""
    return rank_plans(shape, request)[0]


def rank_plans(shape: ModelShape, request: PlanRequest) -> list[MemoryPlan]:
    """Return the plans that fit, best first, each smaller than all that are better; `NUM_RANKED` at most.

    Raises:
        DoesNotFit: None does; metadata has `limit_bytes`, `smallest_limit_bytes`, and `changes`, as JSON, that would make it fit.
        ValueError: There are no rows.
    """
    if not any(request.batches):
        raise ValueError("a plan needs at least one row")
    pricing = Pricing(shape, request)
    candidates = sorted(_price_all(request, pricing), key=lambda candidate: candidate.rank)
    smallest = min(candidate.needed_bytes for candidate in candidates)
    fitting = [candidate for candidate in candidates if candidate.needed_bytes <= request.limit_bytes]
    if not fitting:
        raise _does_not_fit(smallest, request, propose_changes(shape, request))
    return [
        MemoryPlan(
            techniques=candidate.techniques,
            terms=candidate.found.terms,
            phases=candidate.found.phases,
            seconds=candidate.seconds,
            accumulation=-(-request.batch_rows // candidate.techniques.micro_batch_rows),
            smallest_limit_bytes=smallest,
            rungs=build_ladder(candidate.techniques, pricing.estimate, request.device),
        )
        for candidate in _drop_beaten(fitting)[:NUM_RANKED]
    ]


def _drop_beaten(ranked: list[_Candidate]) -> list[_Candidate]:
    """Leave out candidates that are no smaller than a better one."""
    kept: list[_Candidate] = []
    for candidate in ranked:
        if not kept or candidate.found.peak_bytes < kept[-1].found.peak_bytes:
            kept.append(candidate)
    return kept


def _price_all(request: PlanRequest, pricing: Pricing) -> Iterator[_Candidate]:
    for techniques in list_candidates(request):
        found, seconds = pricing.estimate(techniques), pricing.predict_seconds(techniques)
        yield _Candidate(techniques, found, seconds, found.peak_bytes + pricing.count_margin(techniques))


def _does_not_fit(smallest: int, request: PlanRequest, changes: list[Change]) -> DoesNotFit:
    message = (
        f"no plan fits in {request.limit_bytes:,} bytes; the smallest limit that would do is {smallest:,}. It would fit with "
        + ", or ".join(change.tell() for change in changes)
    )
    metadata = {
        "limit_bytes": request.limit_bytes,
        "smallest_limit_bytes": smallest,
        "changes": json.dumps([asdict(change) for change in changes]),
    }
    return DoesNotFit(message, metadata=metadata)
