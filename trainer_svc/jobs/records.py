"""How a job lies in the database: rows to jobs and back."""

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from adaptory.core.names import BotName, DatasetName, TrainingJobName, VersionName
from trainer_svc.jobs.job import JobDraft, JobPlan, JobSettings, JobState, MeasuredMemory, TrainingJob
from trainer_svc.jobs.workspace import progress_from_json

_PLAN = TypeAdapter(JobPlan)
# Jobs of earlier releases name no method: theirs is the default.
_SETTINGS = TypeAdapter(JobSettings)


def draft_columns(name: TrainingJobName, draft: JobDraft) -> dict[str, object]:
    """Return the columns of a job that was just accepted, without its time."""
    return {
        "tenant": name.tenant,
        "job": name.job,
        "bot": draft.bot.bot,
        "dataset": draft.dataset.dataset,
        "settings": asdict(draft.settings),
        "memory_limit_bytes": draft.memory_limit_bytes,
        "plan": asdict(draft.plan),
        "judged_files": draft.judged_files,
        "state": JobState.PENDING,
        "attempt": 0,
        "num_lost": 0,
        "version": 0,
        "error": b"",
        **measured_columns(MeasuredMemory()),
    }


def measured_columns(measured: MeasuredMemory) -> dict[str, object]:
    """Return the columns of what an attempt took."""
    return {
        "measured_peak_bytes": measured.peak_bytes,
        "measured_phase_bytes": dict(measured.phase_bytes),
        "num_climbs": measured.num_climbs,
    }


def to_job(row: Row[Any]) -> TrainingJob:
    """Turn a row of the table into what it says."""
    return TrainingJob(
        name=TrainingJobName(row.tenant, row.job),
        draft=JobDraft(
            bot=BotName(row.tenant, row.bot),
            dataset=DatasetName(row.tenant, row.dataset),
            settings=_SETTINGS.validate_python(row.settings),
            memory_limit_bytes=row.memory_limit_bytes,
            plan=_PLAN.validate_python(row.plan),
            judged_files=row.judged_files,
        ),
        state=JobState(row.state),
        attempt=row.attempt,
        num_lost=row.num_lost,
        progress=None if row.progress is None else progress_from_json(json.dumps(row.progress)),
        version=VersionName(row.tenant, row.bot, row.version) if row.version else None,
        error=row.error,
        measured=MeasuredMemory(row.measured_peak_bytes, row.measured_phase_bytes, row.num_climbs),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        seq=row.seq,
    )
