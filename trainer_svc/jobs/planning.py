"""Checks and plans a job before it is accepted: its inputs, the length of its rows, the memory it will take."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, DatasetName
from trainer_svc.jobs.inputs import InputFinder, JobInputs
from trainer_svc.jobs.job import JobDraft, JobPlan, JobSettings
from trainer_svc.jobs.machine import Machine, require_possible_limit
from trainer_svc.jobs.residuals import ResidualStore
from trainer_svc.jobs.row_sizes import RowSizes, measure_rows, require_short_rows
from trainer_svc.jobs.rows import RowReader
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.planner import MemoryPlan, rank_plans
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Method

CutBatches = Callable[[RowSizes, TrainingSettings], list[list[int]]]
"""Returns the input tokens of each row in each batch of a job."""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job as it is asked for. `given` are the settings the caller chose, by name; `memory_limit_bytes` of 0 means all there is.

    `limit_field` is what the request calls that limit.
    """

    bot: BotName
    dataset: DatasetName
    method: Method
    given: Mapping[str, int | float]
    memory_limit_bytes: int
    limit_field: str = "training_job.memory_limit_bytes"


@dataclass(frozen=True, slots=True)
class JudgingOrder:
    """A judging of an adapter that was imported: its largest rank, and its files as the artifact store has them."""

    bot: BotName
    dataset: DatasetName
    rank: int
    files: Mapping[str, str]
    memory_limit_bytes: int


class JobPlanner:
    """Turns orders into drafts that can be kept."""

    def __init__(self, inputs: InputFinder, rows: RowReader, residuals: ResidualStore, machine: Machine) -> None:
        """Take where inputs, rows and what was learned come from, and the machine workers run on."""
        self._inputs = inputs
        self._rows = rows
        self._residuals = residuals
        self._machine = machine

    async def draft(self, order: JobOrder) -> JobDraft:
        """Return the job with its plan.

        Raises NotFound or FailedPrecondition for its inputs, InvalidRequest when rows are too long, DoesNotFit with the smallest
        limit that would do.
        """
        settings, plans = await self._settle(order, RowSizes.cut_batches)
        return JobDraft(order.bot, order.dataset, settings, order.memory_limit_bytes, plans[0])

    async def draft_judging(self, order: JudgingOrder) -> JobDraft:
        """Return the job that judges an adapter, planned as if it trained one batch of the longest rows held out: it takes less.

        Raises as `draft`.
        """
        given = {"rank": order.rank, "alpha": order.rank, "epochs": 1, "early_stopping_patience": 0}
        training = JobOrder(
            order.bot, order.dataset, Method.QLORA, given, order.memory_limit_bytes, limit_field="memory_limit_bytes"
        )
        settings, plans = await self._settle(training, RowSizes.cut_longest_judged)
        return JobDraft(order.bot, order.dataset, settings, order.memory_limit_bytes, plans[0], order.files)

    async def rank(self, order: JobOrder) -> list[JobPlan]:
        """Return the plans that keep the job's limit, best first. Raises as `draft`."""
        _, plans = await self._settle(order, RowSizes.cut_batches)
        return plans

    async def _settle(self, order: JobOrder, cut_batches: CutBatches) -> tuple[JobSettings, list[JobPlan]]:
        inputs = await self._inputs.find(order.bot, order.dataset)
        settings = inputs.choose_settings(order.method, order.given)
        residual_bytes = await self._residuals.expect(self._machine.device, inputs.base.name)
        plans = await asyncio.to_thread(self._rank, inputs, settings, order, cut_batches, residual_bytes)
        return settings, plans

    def _rank(
        self, inputs: JobInputs, settings: JobSettings, order: JobOrder, cut_batches: CutBatches, residual_bytes: int
    ) -> list[JobPlan]:
        training, base, memory_limit_bytes = settings.training, inputs.base, order.memory_limit_bytes
        _check_row_limit(base, training.max_row_tokens)
        sizes = measure_rows(base, self._rows.read(inputs.rows_for(settings)))
        require_short_rows(sizes, training.max_row_tokens, field="training_job.settings.max_row_tokens")
        require_possible_limit(memory_limit_bytes, self._machine, field=order.limit_field)
        limit_bytes = memory_limit_bytes or self._machine.measure_free_bytes()
        request = PlanRequest(
            limit_bytes=limit_bytes,
            rank=training.rank,
            batch_rows=training.batch_rows,
            batches=cut_batches(sizes, training),
            held_out=sizes.judged,
            asked=sizes.asked_alone,
            shared_tokens=sizes.shared_tokens,
            num_measurements=sizes.count_measurements(training),
            device=self._machine.device,
            compute=self._machine.read_compute(),
            speed=self._machine.read_speed(),
            residual_bytes=residual_bytes,
            method=settings.method,
        )
        return [self._keep(plan, request) for plan in rank_plans(ModelShape.from_folder(base.parity_dir), request)]

    def _keep(self, plan: MemoryPlan, request: PlanRequest) -> JobPlan:
        return JobPlan(
            limit_bytes=request.limit_bytes,
            predicted_peak_bytes=plan.predicted_peak_bytes,
            smallest_limit_bytes=plan.smallest_limit_bytes,
            terms=plan.terms,
            phases=plan.phases,
            accumulation=plan.accumulation,
            expected_seconds=plan.seconds if request.speed else 0.0,
            rungs=plan.rungs,
            device=self._machine.device,
            # An estimate gives up half of its context at most: then as much was taken off as is left.
            residual_bytes=max(request.residual_bytes, -plan.terms["context"]),
        )


def _check_row_limit(base: PreparedBase, limit: int) -> None:
    if limit > base.max_tokens:
        raise InvalidRequest.of_field(
            "training_job.settings.max_row_tokens",
            f"is {limit}; {base.name} takes at most {base.max_tokens} tokens",
            max_row_tokens=limit,
            base_max_tokens=base.max_tokens,
        )
