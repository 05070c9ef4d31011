"""Turns what a worker left into a version: checked again, stored, and registered in the one transaction that ends the job.

Blobs come first and are read back; a crash before the transaction leaves blobs nobody names, never a version without its bytes.
"""

import asyncio
from dataclasses import asdict
from pathlib import Path

from adaptory.core.adapter_check import ADAPTER_FILES, AdapterLimits, AdapterReport, check_adapter
from adaptory.core.digests import digest_listing, hash_text
from adaptory.core.errors import AdapterRejected
from adaptory.core.fim import digest_form
from trainer_svc.bots.kinds import BotKind
from trainer_svc.jobs.inputs import JobInputs
from trainer_svc.jobs.job import TrainingJob
from trainer_svc.jobs.outcome import TrainingFailed
from trainer_svc.jobs.store import AttemptName, JobStore
from trainer_svc.jobs.workspace import WorkerResult
from trainer_svc.memory.techniques import describe
from trainer_svc.registry.artifacts import ArtifactStore
from trainer_svc.registry.bots import QualityGate
from trainer_svc.registry.versions import Evaluation, Lineage, VersionDraft, VersionState


class Publisher:
    """Publishes the adapters of jobs that are PUBLISHING."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, limits: AdapterLimits) -> None:
        self._store = store
        self._artifacts = artifacts
        self._limits = limits

    async def publish(
        self, job: TrainingJob, inputs: JobInputs, adapter_dir: Path, result: WorkerResult
    ) -> TrainingJob:
        """Register the staged adapter and return the job, which has ended.

        The version is READY, or REJECTED where the bot's gate says so. Raises AdapterRejected when its files must not be served.
        """
        report = await asyncio.to_thread(check_adapter, adapter_dir, inputs.base.shape, self._limits)
        files = await asyncio.to_thread(self._put_files, adapter_dir)
        _require_same_bytes(files, report, result)
        evaluation = _read_evaluation(result)
        rejection = judge(evaluation, inputs.bot.draft.gate)
        draft = VersionDraft(
            bot=inputs.bot.name,
            job=job.name.job,
            state=VersionState.REJECTED if rejection else VersionState.READY,
            digest=report.digest,
            files=files,
            rank=report.rank,
            size_bytes=report.size_bytes,
            system_prompt=inputs.bot.draft.system_prompt,
            lineage=_trace(job, inputs, result),
            evaluation=evaluation,
            rejection=rejection,
        )
        return await self._store.publish(AttemptName(job.name, job.attempt), draft)

    def _put_files(self, adapter_dir: Path) -> dict[str, str]:
        digests = {}
        for name in ADAPTER_FILES:
            with (adapter_dir / name).open("rb") as file:
                digests[name] = self._artifacts.put(file).digest
        return digests


def judge(evaluation: Evaluation, gate: QualityGate) -> str:
    """Return why a version must not be READY, an empty text when it may be. Losses that are NaN never pass."""
    base_loss, adapter_loss = evaluation.base_loss, evaluation.adapter_loss
    if gate.is_passed(base_loss=base_loss, adapter_loss=adapter_loss):
        return ""
    return (
        f"Its held-out loss is {adapter_loss:.4g}, the base's {base_loss:.4g}; the gate allows at most "
        f"{gate.effective_max_loss_ratio:.4g} of the base's. Add wordings or epochs, or change the bot's gate."
    )


def _require_same_bytes(files: dict[str, str], report: AdapterReport, result: WorkerResult) -> None:
    """Raise AdapterRejected unless what was staged, what was checked and what was stored are the same bytes."""
    stored = digest_listing(files)
    if not stored == report.digest == result.adapter_digest:
        message = (
            f"The adapter changed on its way: staged {result.adapter_digest}, checked {report.digest}, stored {stored}."
        )
        metadata = {"staged": result.adapter_digest, "checked": report.digest, "stored": stored}
        raise AdapterRejected(message, reason="ADAPTER_CHANGED", metadata=metadata)


def _read_evaluation(result: WorkerResult) -> Evaluation:
    if result.base_loss is None or result.adapter_loss is None:
        raise TrainingFailed("The worker succeeded but left no held-out losses.", reason="NOT_EVALUATED")
    return Evaluation(
        base_loss=result.base_loss,
        adapter_loss=result.adapter_loss,
        num_held_out_rows=result.num_held_out_rows,
        num_train_rows=result.num_train_rows,
        train_tokens_per_second=result.tokens_per_second,
        train_seconds=result.train_seconds,
    )


def _trace(job: TrainingJob, inputs: JobInputs, result: WorkerResult) -> Lineage:
    return Lineage(
        training_job=str(job.name),
        dataset=str(inputs.dataset.name),
        dataset_digest=inputs.dataset.digest,
        base_model=inputs.base.name,
        base_digest=inputs.base.digest,
        parity_digest=inputs.base.parity_digest,
        template_digest=_digest_rendering(inputs),
        code_versions=result.versions,
        settings=_tell_settings(job),
        device=result.device,
        memory_limit_bytes=job.draft.plan.limit_bytes,
        predicted_peak_bytes=job.draft.plan.predicted_peak_bytes,
        measured_peak_bytes=result.peak_bytes,
        phase_peak_bytes=result.phase_peak_bytes,
        predicted_phase_bytes=job.draft.plan.phases,
        num_climbs=result.num_climbs,
        final_techniques=describe(result.techniques or job.draft.plan.techniques),
    )


def _digest_rendering(inputs: JobInputs) -> str:
    """Return the digest of what rendered the rows: the server that renders prompts must have the same."""
    if inputs.bot.draft.kind is BotKind.CODE_COMPLETION:
        return digest_form(inputs.base.fim, inputs.base.end_of_turn)
    return hash_text(inputs.base.chat_template)


def _tell_settings(job: TrainingJob) -> dict[str, str]:
    settings, plan = job.draft.settings, job.draft.plan
    told = {
        "method": job.draft.settings.method.name,
        **asdict(settings.training),
        "held_out_share": settings.held_out_share,
        **asdict(plan.techniques),
    }
    return {name: str(value) for name, value in told.items()}
