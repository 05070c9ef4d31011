"""What a job is made of: its bot, its dataset, the base both need. Looked up alike when it is planned, run and published."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import FailedPrecondition
from adaptory.core.names import BotName, DatasetName
from trainer_svc.bots.formats import require_trained_format
from trainer_svc.bots.teaching import Lesson, teaching_of
from trainer_svc.jobs.job import JobSettings
from trainer_svc.jobs.rows import RowSource
from trainer_svc.memory.techniques import Method
from trainer_svc.registry.bots import Bot, Bots
from trainer_svc.registry.datasets import Dataset, Datasets, DatasetState


@dataclass(frozen=True, slots=True)
class JobInputs:
    """A bot, a READY dataset of its kind, and the bot's base."""

    bot: Bot
    dataset: Dataset
    base: PreparedBase

    def rows_for(self, settings: JobSettings) -> RowSource:
        """Return what the rows of a job with these settings are read from."""
        dataset, bot = self.dataset, self.bot.draft
        lesson = Lesson(bot.system_prompt, settings.training, self.base, bot.refusal)
        return RowSource(bot.kind, dataset.draft.format, dataset.digest, settings.held_out_share, lesson)

    def choose_settings(self, method: Method, given: Mapping[str, int | float]) -> JobSettings:
        """Return the settings of a job: what is given by name, and else the recipe for this data and base."""
        recipe = teaching_of(self.bot.draft.kind).choose_recipe(self.dataset.report.size)
        chosen = recipe.fit(self.base.shape).override(given)
        return JobSettings(chosen.training, chosen.held_out_share, method)


class InputFinder:
    """Finds the inputs of jobs."""

    def __init__(self, bots: Bots, datasets: Datasets, find_base: Callable[[str], PreparedBase]) -> None:
        """Take where they are kept, and how a prepared base is found by its name in the catalogue."""
        self._bots = bots
        self._datasets = datasets
        self._find_base = find_base

    async def find(self, bot_name: BotName, dataset_name: DatasetName) -> JobInputs:
        """Return a job's inputs.

        Raises NotFound, NotServed for data that no job trains on yet, and FailedPrecondition: DATASET_NOT_READY, NOT_TRAINING_DATA,
        KIND_MISMATCH, BASE_NOT_PREPARED.
        """
        bot = await self._bots.get(bot_name)
        dataset = await self._datasets.get(dataset_name)
        if dataset.state is not DatasetState.READY:
            message = f"{dataset.name} is {dataset.state}; only a READY dataset can be trained on."
            metadata = {"name": dataset.name, "state": dataset.state}
            raise FailedPrecondition(message, reason="DATASET_NOT_READY", metadata=metadata)
        if not dataset.draft.format.is_data:
            message = f"{dataset.name} holds an adapter, which is imported; upload questions, conversations or code to train on."
            raise FailedPrecondition(message, reason="NOT_TRAINING_DATA", metadata={"name": dataset.name})
        if dataset.draft.kind is not bot.draft.kind:
            message = f"{dataset.name} is of kind {dataset.draft.kind}, {bot.name} of kind {bot.draft.kind}; they must be the same."
            kinds = {"dataset_kind": dataset.draft.kind, "bot_kind": bot.draft.kind}
            raise FailedPrecondition(message, reason="KIND_MISMATCH", metadata=kinds)
        require_trained_format(dataset.draft.format)
        return JobInputs(bot, dataset, await asyncio.to_thread(self._find_base, bot.draft.base_model))
