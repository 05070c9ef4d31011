"""Checks and plans a job before it is accepted: its inputs, the length of its rows, the memory it will take."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, DatasetName
from adaptory.core.prompting import Renderer
from trainer_svc.bots.faq import Row
from trainer_svc.jobs.inputs import InputFinder, JobInputs
from trainer_svc.jobs.job import JobDraft, JobPlan, JobSettings
from trainer_svc.jobs.residuals import ResidualStore
from trainer_svc.jobs.rows import RowReader
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.batches import order_places
from trainer_svc.memory.planner import PlanRequest, plan_memory
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import DeviceKind


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job as it is asked for. `memory_limit_bytes` of 0 means all the machine has."""

    bot: BotName
    dataset: DatasetName
    settings: JobSettings
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class RowSizes:
    """The lengths in tokens of the rows that are trained on and of those held out, and how many first tokens all of them share."""

    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    shared_tokens: int

    @property
    def tokens(self) -> tuple[int, ...]:
        """The length of every row."""
        return self.trained + self.held_out

    def cut_batches(self, settings: TrainingSettings) -> list[list[int]]:
        """Return the lengths in each batch of a job, as the worker will take them, and those held out as one more."""
        steps = [[self.trained[place] for place in places] for places in order_places(len(self.trained), settings)]
        return [*steps, list(self.held_out)]


class JobPlanner:
    """Turns orders into drafts that can be kept."""

    def __init__(
        self,
        inputs: InputFinder,
        rows: RowReader,
        residuals: ResidualStore,
        device: DeviceKind,
        measure_free_bytes: Callable[[DeviceKind], int],
    ) -> None:
        """Take where inputs, rows and learned residuals come from, the device workers use, and what says how much of it is free."""
        self._inputs = inputs
        self._rows = rows
        self._residuals = residuals
        self._device = device
        self._measure_free_bytes = measure_free_bytes

    async def draft(self, order: JobOrder) -> JobDraft:
        """Return the job with its plan.

        Raises NotFound or FailedPrecondition for its inputs, InvalidRequest when rows are too long, DoesNotFit with the smallest
        limit that would do.
        """
        inputs = await self._inputs.find(order.bot, order.dataset)
        residual_bytes = await self._residuals.expect(self._device, inputs.base.name)
        plan = await asyncio.to_thread(self._plan, inputs, order, residual_bytes)
        return JobDraft(order.bot, order.dataset, order.settings, order.memory_limit_bytes, plan)

    def _plan(self, inputs: JobInputs, order: JobOrder, residual_bytes: int) -> JobPlan:
        training, base = order.settings.training, inputs.base
        _check_row_limit(base, training.max_row_tokens)
        sizes = measure_rows(base, self._rows.read(inputs.rows_for(order.settings)))
        _require_short_rows(sizes, training.max_row_tokens)
        limit_bytes = order.memory_limit_bytes or self._measure_free_bytes(self._device)
        request = PlanRequest(
            limit_bytes=limit_bytes,
            rank=training.rank,
            batch_rows=training.batch_rows,
            batches=sizes.cut_batches(training),
            shared_tokens=sizes.shared_tokens,
            device=self._device,
            residual_bytes=residual_bytes,
        )
        plan = plan_memory(ModelShape.from_folder(base.parity_dir), request)
        return JobPlan(
            limit_bytes=limit_bytes,
            predicted_peak_bytes=plan.predicted_peak_bytes,
            smallest_limit_bytes=plan.smallest_limit_bytes,
            terms=plan.terms,
            phases=plan.phases,
            accumulation=plan.accumulation,
            rungs=plan.rungs,
            device=self._device,
            # An estimate gives up half of its context at most: then as much was taken off as is left.
            residual_bytes=max(residual_bytes, -plan.terms["context"]),
        )


def measure_rows(base: PreparedBase, rows: Iterable[Row]) -> RowSizes:
    """Render rows as the worker will and return their sizes; one row at a time is held."""
    renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
    trained: list[int] = []
    held_out: list[int] = []
    shared: tuple[int, ...] | None = None
    for row in rows:
        ids = renderer.render_row(row.messages).ids
        (held_out if row.is_held_out else trained).append(len(ids))
        shared = ids if shared is None else _common_start(shared, ids)
    return RowSizes(tuple(trained), tuple(held_out), len(shared or ()))


def _common_start(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    length = next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
    return first[:length]


def _require_short_rows(sizes: RowSizes, limit: int) -> None:
    num_long, longest = sum(length > limit for length in sizes.tokens), max(sizes.tokens)
    if num_long:
        sentence = (
            f"is {limit}, but {num_long} of {len(sizes.tokens)} rows are longer, the longest has {longest} tokens; raise it or "
            "shorten the answers, since rows are never clipped"
        )
        raise InvalidRequest.of_field(
            "training_job.settings.max_row_tokens",
            sentence,
            max_row_tokens=limit,
            num_long_rows=num_long,
            longest_row_tokens=longest,
        )


def _check_row_limit(base: PreparedBase, limit: int) -> None:
    if limit > base.max_tokens:
        raise InvalidRequest.of_field(
            "training_job.settings.max_row_tokens",
            f"is {limit}; {base.name} takes at most {base.max_tokens} tokens",
            max_row_tokens=limit,
            base_max_tokens=base.max_tokens,
        )
