"""Turns what a worker left into a version: checked again, stored, and registered in the one transaction that ends the job.

Blobs come first and are read back; a crash before the transaction leaves blobs nobody names, never a version without its bytes.
"""

import asyncio
from dataclasses import asdict, replace
from pathlib import Path

from adaptory.core.adapter_check import ADAPTER_FILES, AdapterLimits, AdapterReport, inspect_adapter
from adaptory.core.digests import digest_listing
from adaptory.core.errors import AdapterRejected
from trainer_svc.bots.row_rendering import choose_receipt, digest_rendering
from trainer_svc.jobs.inputs import JobInputs
from trainer_svc.jobs.job import TrainingJob
from trainer_svc.jobs.scoring import count_refusal_rows, evaluate_attempt
from trainer_svc.jobs.store import AttemptName, JobStore
from trainer_svc.jobs.workspace import WorkerResult, Workspace
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import find_faults
from trainer_svc.judging.pass_rate import RunBudget, Trials
from trainer_svc.memory.techniques import describe
from trainer_svc.registry.artifacts import ArtifactStore
from trainer_svc.registry.bots import BotDraft
from trainer_svc.registry.judgements import Judgement, JudgingTrace
from trainer_svc.registry.versions import Lineage, VersionDraft, VersionState

_UNKNOWN_ROWS = "The adapter was trained elsewhere: whether it was trained on the rows it is judged by is not known."


class Publisher:
    """Publishes the adapters of jobs that are PUBLISHING."""

    def __init__(
        self, store: JobStore, artifacts: ArtifactStore, limits: AdapterLimits, tests: RunBudget | None = None
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._limits = limits
        self._tests = tests or RunBudget()

    async def publish(
        self, job: TrainingJob, inputs: JobInputs, workspace: Workspace, result: WorkerResult
    ) -> TrainingJob:
        """Score the answers, register the staged adapter, or keep what a given one scored, and return the job, which has ended.

        The version is READY, or REJECTED where its values must not be served or the bot's gate says so. Raises AdapterRejected when
        its files are no adapter for the base, and TrainingFailed when the worker left too little to judge it by.
        """
        if job.draft.judged_files is not None:
            return await self._publish_judgement(job, inputs, workspace, result)
        adapter_dir, bot = workspace.adapter_dir, inputs.bot.draft
        report = await asyncio.to_thread(inspect_adapter, adapter_dir, inputs.base.shape, self._limits)
        files = await asyncio.to_thread(self._put_files, adapter_dir)
        _require_same_bytes(files, report, result)
        evaluation = await self._evaluate(workspace, result, bot)
        if report.fault is not None:
            evaluation = replace(evaluation, weights_fault=f"{report.fault.message}.")
        rejection = " ".join(find_faults(bot.kind, bot.gate, evaluation))
        draft = VersionDraft(
            bot=bot.name,
            job=job.name.job,
            state=VersionState.REJECTED if rejection else VersionState.READY,
            digest=report.digest,
            files=files,
            rank=report.rank,
            size_bytes=report.size_bytes,
            system_prompt=bot.system_prompt,
            lineage=replace(
                _trace(job, inputs, result),
                refusal_text=bot.refusal.text,
                num_refusal_rows=await asyncio.to_thread(count_refusal_rows, workspace, bot.refusal),
            ),
            evaluation=evaluation,
            rejection=rejection,
        )
        return await self._store.publish(AttemptName(job.name, job.attempt), draft)

    async def _publish_judgement(
        self, job: TrainingJob, inputs: JobInputs, workspace: Workspace, result: WorkerResult
    ) -> TrainingJob:
        """Keep what base and an adapter from elsewhere scored. Raises AdapterRejected where another one was judged."""
        bot = inputs.bot.draft
        _require_judged_bytes(job, result)
        evaluation = await self._evaluate(workspace, result, bot)
        evaluation = replace(evaluation, notes=(*evaluation.notes, _UNKNOWN_ROWS))
        rejection = " ".join(find_faults(bot.kind, bot.gate, evaluation))
        judgement = Judgement(evaluation, rejection, _trace_judging(job, result))
        return await self._store.judge(AttemptName(job.name, job.attempt), judgement)

    async def _evaluate(self, workspace: Workspace, result: WorkerResult, bot: BotDraft) -> Evaluation:
        trials = Trials(self._tests)
        try:
            return await asyncio.to_thread(evaluate_attempt, workspace, result, bot, trials)
        finally:
            # A service that stops waits for its threads.
            trials.stop()

    def _put_files(self, adapter_dir: Path) -> dict[str, str]:
        digests = {}
        for name in ADAPTER_FILES:
            with (adapter_dir / name).open("rb") as file:
                digests[name] = self._artifacts.put(file).digest
        return digests


def _require_same_bytes(files: dict[str, str], report: AdapterReport, result: WorkerResult) -> None:
    """Raise AdapterRejected unless what was staged, what was checked and what was stored are the same bytes."""
    stored = digest_listing(files)
    if not stored == report.digest == result.adapter_digest:
        message = (
            f"The adapter changed on its way: staged {result.adapter_digest}, checked {report.digest}, stored {stored}."
        )
        metadata = {"staged": result.adapter_digest, "checked": report.digest, "stored": stored}
        raise AdapterRejected(message, reason="ADAPTER_CHANGED", metadata=metadata)


def _require_judged_bytes(job: TrainingJob, result: WorkerResult) -> None:
    registered = digest_listing(job.draft.judged_files or {})
    if result.adapter_digest != registered:
        message = f"The worker judged {result.adapter_digest}, and the version is {registered}."
        metadata = {"judged": result.adapter_digest, "registered": registered}
        raise AdapterRejected(message, reason="ADAPTER_CHANGED", metadata=metadata)


def _trace_judging(job: TrainingJob, result: WorkerResult) -> JudgingTrace:
    plan = job.draft.plan
    return JudgingTrace(
        code_versions=result.versions,
        device=result.device,
        memory_limit_bytes=plan.limit_bytes,
        predicted_peak_bytes=plan.predicted_peak_bytes,
        measured_peak_bytes=result.peak_bytes,
        phase_peak_bytes=result.phase_peak_bytes,
        predicted_phase_bytes={phase: plan.phases[phase] for phase in result.phase_peak_bytes},
        num_climbs=result.num_climbs,
        final_techniques=describe(result.techniques or plan.techniques),
    )


def _trace(job: TrainingJob, inputs: JobInputs, result: WorkerResult) -> Lineage:
    return Lineage(
        training_job=str(job.name),
        dataset=str(inputs.dataset.name),
        dataset_digest=inputs.dataset.digest,
        base_model=inputs.base.name,
        base_digest=inputs.base.digest,
        parity_digest=inputs.base.parity_digest,
        template_digest=digest_rendering(inputs.bot.draft.kind, inputs.base),
        receipt=choose_receipt(inputs.bot.draft.kind, result.receipts),
        code_versions=result.versions,
        settings=_tell_settings(job),
        device=result.device,
        memory_limit_bytes=job.draft.plan.limit_bytes,
        predicted_peak_bytes=job.draft.plan.predicted_peak_bytes,
        measured_peak_bytes=result.peak_bytes,
        phase_peak_bytes=result.phase_peak_bytes,
        predicted_phase_bytes=job.draft.plan.phases,
        num_climbs=result.num_climbs,
        best_step=result.best_step,
        num_steps=result.num_steps,
        final_techniques=describe(result.techniques or job.draft.plan.techniques),
    )


def _tell_settings(job: TrainingJob) -> dict[str, str]:
    settings, plan = job.draft.settings, job.draft.plan
    told = {
        "method": job.draft.settings.method.name,
        **asdict(settings.training),
        "held_out_share": settings.held_out_share,
        **asdict(plan.techniques),
    }
    return {name: str(value) for name, value in told.items()}
