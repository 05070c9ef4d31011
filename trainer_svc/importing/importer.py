"""The story of one import: its inputs are found, its files brought into normal form, its judging planned, all of it kept."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import FailedPrecondition
from adaptory.core.names import BotName, DatasetName
from trainer_svc.bots.row_rendering import RowRenderer, choose_receipt, digest_rendering
from trainer_svc.importing.store import ImportStore
from trainer_svc.importing.workshop import Workpiece, Workshop
from trainer_svc.jobs.inputs import InputFinder
from trainer_svc.jobs.job import JobDraft
from trainer_svc.jobs.planning import JobPlanner, JudgingOrder
from trainer_svc.registry.bots import Bot, Bots
from trainer_svc.registry.datasets import Dataset, Datasets, DatasetState
from trainer_svc.registry.requests import RequestKey
from trainer_svc.registry.versions import ImportedAdapter, Lineage, Version, VersionDraft, VersionState

_NOT_JUDGED = "It was imported without rows to judge it by."


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """An import as it is asked for; without a `judging_dataset` nothing is judged, and `memory_limit_bytes` means nothing."""

    bot: BotName
    dataset: DatasetName
    origin: str
    judging_dataset: DatasetName | None
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class ImportTools:
    """What imports use; built once by `app.py`."""

    bots: Bots
    datasets: Datasets
    inputs: InputFinder
    find_base: Callable[[str], PreparedBase]
    workshop: Workshop
    planner: JobPlanner
    store: ImportStore


@dataclass(frozen=True, slots=True)
class _Inputs:
    """A bot, its base, an upload that holds an adapter, and what judges it, if anything does."""

    bot: Bot
    base: PreparedBase
    upload: Dataset
    judging: Dataset | None


class Importer:
    """Makes versions of adapters that were trained elsewhere."""

    def __init__(self, tools: ImportTools) -> None:
        """Take the tools."""
        self._tools = tools

    async def find_made(self, request: RequestKey) -> Version | None:
        """Return the version the same request made before, None when it is new. Raises AlreadyExists."""
        return await self._tools.store.find_made(request)

    async def check(self, order: ImportOrder) -> VersionDraft:
        """Return the version as it would be registered, and keep nothing. Raises as `register`."""
        inputs = await self._find_inputs(order)
        piece = await asyncio.to_thread(self._tools.workshop.check, inputs.upload, inputs.base)
        await self._plan(order, piece)
        return await asyncio.to_thread(_draft, order, inputs, piece)

    async def register(self, order: ImportOrder, request: RequestKey) -> Version:
        """Register the version, and the job that judges it where there are rows for that: both or neither.

        Raises NotFound, FailedPrecondition (NOT_AN_ADAPTER, DATASET_NOT_READY, BASE_NOT_PREPARED), AdapterRejected as
        `write_normal_form`; for the judging as `JobPlanner.draft_judging`.
        """
        inputs = await self._find_inputs(order)
        piece = await asyncio.to_thread(self._tools.workshop.keep, inputs.upload, inputs.base)
        job = await self._plan(order, piece)
        draft = await asyncio.to_thread(_draft, order, inputs, piece)
        return await self._tools.store.create(draft, job, request)

    async def _find_inputs(self, order: ImportOrder) -> _Inputs:
        bot, upload = await self._tools.bots.get(order.bot), await self._tools.datasets.get(order.dataset)
        if upload.draft.format.is_data:
            message = f"{upload.name} holds data, and no adapter; upload the adapter's two files as format ADAPTER_TAR."
            raise FailedPrecondition(message, reason="NOT_AN_ADAPTER", metadata={"name": upload.name})
        if upload.state is not DatasetState.READY:
            message = f"{upload.name} is {upload.state}; only a READY upload can be imported."
            metadata = {"name": upload.name, "state": upload.state}
            raise FailedPrecondition(message, reason="DATASET_NOT_READY", metadata=metadata)
        base = await asyncio.to_thread(self._tools.find_base, bot.draft.base_model)
        if order.judging_dataset is None:
            return _Inputs(bot, base, upload, None)
        # Before the adapter is read: what cannot be judged by costs nothing then.
        found = await self._tools.inputs.find(order.bot, order.judging_dataset)
        return _Inputs(bot, base, upload, found.dataset)

    async def _plan(self, order: ImportOrder, piece: Workpiece) -> JobDraft | None:
        if order.judging_dataset is None:
            return None
        judging = JudgingOrder(
            order.bot, order.judging_dataset, piece.form.report.rank, piece.files, order.memory_limit_bytes
        )
        return await self._tools.planner.draft_judging(judging)


def _draft(order: ImportOrder, inputs: _Inputs, piece: Workpiece) -> VersionDraft:
    """Return the version, not judged. Blocks: the base's tokenizer is read."""
    report, bot = piece.form.report, inputs.bot.draft
    return VersionDraft(
        bot=order.bot,
        job="",
        state=VersionState.UNJUDGED,
        digest=report.digest,
        files=piece.files,
        rank=report.rank,
        size_bytes=report.size_bytes,
        system_prompt=bot.system_prompt,
        lineage=_trace(order, inputs, piece),
        evaluation=None,
        rejection=_NOT_JUDGED,
    )


def _trace(order: ImportOrder, inputs: _Inputs, piece: Workpiece) -> Lineage:
    form, base, kind = piece.form, inputs.base, inputs.bot.draft.kind
    return Lineage(
        training_job="",
        dataset="" if inputs.judging is None else str(inputs.judging.name),
        dataset_digest="" if inputs.judging is None else inputs.judging.digest,
        base_model=base.name,
        base_digest=base.digest,
        parity_digest=base.parity_digest,
        template_digest=digest_rendering(kind, base),
        # No training has rendered its rows here: this says how the trainer would, and a server must do the same.
        receipt=choose_receipt(kind, RowRenderer.of(base).sign()),
        code_versions={"adaptory": version("adaptory")},
        settings={
            "rank": str(form.report.rank),
            "alpha": f"{form.report.alpha:g}",
            "target_modules": ", ".join(form.report.target_modules),
        },
        device="",
        memory_limit_bytes=0,
        predicted_peak_bytes=0,
        measured_peak_bytes=0,
        phase_peak_bytes={},
        imported=ImportedAdapter(
            dataset=str(inputs.upload.name),
            dataset_digest=inputs.upload.digest,
            origin=order.origin,
            named_base=form.config.named_base,
            original_config=form.original_config,
            changes=form.changes,
        ),
    )
