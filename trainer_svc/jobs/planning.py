"""Checks and plans a job before it is accepted: its inputs, the length of its rows, the memory it will take."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, DatasetName
from adaptory.core.prompting import Renderer
from trainer_svc.jobs.inputs import InputFinder, JobInputs
from trainer_svc.jobs.job import JobDraft, JobPlan, JobSettings
from trainer_svc.jobs.rows import RowReader


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job as it is asked for. `memory_limit_bytes` of 0 means all the machine has."""

    bot: BotName
    dataset: DatasetName
    settings: JobSettings
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What a memory plan depends on; `row_tokens` has the length of each row to train on."""

    base: PreparedBase
    settings: JobSettings
    row_tokens: Sequence[int]
    limit_bytes: int


class JobPlanner:
    """Turns orders into drafts that can be kept."""

    def __init__(
        self,
        inputs: InputFinder,
        rows: RowReader,
        plan_memory: Callable[[PlanQuestion], JobPlan],
        measure_free_bytes: Callable[[], int],
    ) -> None:
        """Take where inputs and rows come from, the memory planner, and what says how much memory the machine has to spare."""
        self._inputs = inputs
        self._rows = rows
        self._plan_memory = plan_memory
        self._measure_free_bytes = measure_free_bytes

    async def draft(self, order: JobOrder) -> JobDraft:
        """Return the job with its plan.

        Raises NotFound or FailedPrecondition for its inputs, InvalidRequest when rows are too long, DoesNotFit with the smallest
        limit that would do.
        """
        inputs = await self._inputs.find(order.bot, order.dataset)
        row_tokens = await asyncio.to_thread(self._measure_rows, inputs, order.settings)
        limit_bytes = order.memory_limit_bytes or self._measure_free_bytes()
        question = PlanQuestion(inputs.base, order.settings, row_tokens, limit_bytes)
        plan = await asyncio.to_thread(partial(self._plan_memory, question))
        return JobDraft(order.bot, order.dataset, order.settings, order.memory_limit_bytes, plan)

    def _measure_rows(self, inputs: JobInputs, settings: JobSettings) -> list[int]:
        """Return the tokens of each row, held-out ones along: judging takes memory, too."""
        base, limit = inputs.base, settings.training.max_row_tokens
        _check_row_limit(base, limit)
        renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
        lengths = [len(renderer.render_row(row.messages).ids) for row in self._rows.read(inputs.rows_for(settings))]
        num_long = sum(length > limit for length in lengths)
        if num_long:
            sentence = (
                f"is {limit}, but {num_long} of {len(lengths)} rows are longer, the longest has {max(lengths)} tokens; raise it or "
                "shorten the answers, since rows are never clipped"
            )
            raise InvalidRequest.of_field(
                "training_job.settings.max_row_tokens",
                sentence,
                max_row_tokens=limit,
                num_long_rows=num_long,
                longest_row_tokens=max(lengths),
            )
        return lengths


def _check_row_limit(base: PreparedBase, limit: int) -> None:
    if limit > base.max_tokens:
        raise InvalidRequest.of_field(
            "training_job.settings.max_row_tokens",
            f"is {limit}; {base.name} takes at most {base.max_tokens} tokens",
            max_row_tokens=limit,
            base_max_tokens=base.max_tokens,
        )
