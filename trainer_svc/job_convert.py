"""Training jobs as messages of the contract: `job_requests.py` reads what comes in, this writes what goes out."""

from collections.abc import Sequence

from google.rpc import status_pb2

from adaptory.trainer.v1 import training_job_pb2
from trainer_svc.jobs.job import JobDraft, JobEvent, JobPlan, JobSettings, JobState, TrainingJob
from trainer_svc.jobs.workspace import Progress
from trainer_svc.memory.techniques import Home, Recompute, Techniques, describe
from trainer_svc.registry_convert import write_time


def write_job(job: TrainingJob) -> training_job_pb2.TrainingJob:
    """Return a job as a message."""
    return training_job_pb2.TrainingJob(
        name=str(job.name),
        bot=str(job.draft.bot),
        dataset=str(job.draft.dataset),
        settings=_write_settings(job.draft.settings),
        memory_limit_bytes=job.draft.memory_limit_bytes,
        state=_write_state(job.state),
        plan=write_plan(job.draft.plan),
        progress=_write_progress(job.progress) if job.progress else None,
        version=str(job.version or ""),
        error=status_pb2.Status.FromString(job.error) if job.error else None,
        measured_peak_bytes=job.measured.peak_bytes,
        measured_phase_bytes=job.measured.phase_bytes,
        num_climbs=job.measured.num_climbs,
        judges_only=job.draft.judged_files is not None,
        create_time=write_time(job.create_time),
        start_time=write_time(job.start_time),
        end_time=write_time(job.end_time),
    )


def write_draft(draft: JobDraft) -> training_job_pb2.TrainingJob:
    """Return a job that was checked and planned but not kept, as a message without a name."""
    return training_job_pb2.TrainingJob(
        bot=str(draft.bot),
        dataset=str(draft.dataset),
        settings=_write_settings(draft.settings),
        memory_limit_bytes=draft.memory_limit_bytes,
        plan=write_plan(draft.plan),
    )


def write_plan(plan: JobPlan) -> training_job_pb2.MemoryPlan:
    """Return a plan as a message."""
    techniques = plan.techniques
    return training_job_pb2.MemoryPlan(
        predicted_peak_bytes=plan.predicted_peak_bytes,
        limit_bytes=plan.limit_bytes,
        terms=plan.terms,
        phases=plan.phases,
        base_precision=techniques.base,
        checkpointing=techniques.recompute is not Recompute.NONE,
        recompute=techniques.recompute,
        compute=techniques.compute,
        moments=techniques.moments,
        offloaded=_name_offloaded(techniques),
        loss_block_tokens=techniques.loss_block_tokens,
        micro_batch_rows=techniques.micro_batch_rows,
        accumulation=plan.accumulation,
        smallest_limit_bytes=plan.smallest_limit_bytes,
        summary=describe(techniques),
        expected_seconds=plan.expected_seconds,
    )


def write_plans(plans: Sequence[JobPlan]) -> training_job_pb2.MemoryPlan:
    """Return the first of ranked plans as a message that has the others."""
    message = write_plan(plans[0])
    message.alternatives.extend(map(write_plan, plans[1:]))
    return message


def write_event(event: JobEvent, plan: JobPlan) -> training_job_pb2.TrainingEvent:
    """Return an event of a job with this plan as a message."""
    sequence, time = event.sequence, write_time(event.time)
    match event.body:
        case JobState() as state:
            return training_job_pb2.TrainingEvent(sequence=sequence, time=time, state=_write_state(state))
        case Progress(climbed_to=Techniques() as techniques) as progress:
            climb = _write_climb(progress, techniques, plan)
            return training_job_pb2.TrainingEvent(sequence=sequence, time=time, climb=climb)
        case Progress(message=message) if message:
            return training_job_pb2.TrainingEvent(sequence=sequence, time=time, message=message)
        case Progress() as progress:
            return training_job_pb2.TrainingEvent(sequence=sequence, time=time, progress=_write_progress(progress))
        case message:
            return training_job_pb2.TrainingEvent(sequence=sequence, time=time, message=message)


def _write_settings(settings: JobSettings) -> training_job_pb2.TrainingSettings:
    """Return settings as a message, with every value that a recipe filled in."""
    training = settings.training
    return training_job_pb2.TrainingSettings(
        method=f"TRAINING_METHOD_{settings.method.name}",
        rank=training.rank,
        alpha=training.alpha,
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        batch_rows=training.batch_rows,
        max_row_tokens=training.max_row_tokens,
        seed=training.seed,
        max_steps=training.max_steps,
        early_stopping_patience=training.early_stopping_patience,
        held_out_share=settings.held_out_share,
    )


def _name_offloaded(techniques: Techniques) -> list[str]:
    homes = {
        "moments": techniques.moments_home,
        "activations": techniques.activations_home,
        "frozen weights": techniques.frozen_home,
    }
    return [name for name, home in homes.items() if home is not Home.DEVICE]


def _write_state(state: JobState) -> str:
    return f"STATE_{state}"


def _write_progress(progress: Progress) -> training_job_pb2.TrainingProgress:
    return training_job_pb2.TrainingProgress(
        phase=progress.phase,
        step=progress.step,
        num_steps=progress.num_steps,
        loss=progress.loss or 0.0,
        learning_rate=progress.learning_rate or 0.0,
        tokens_per_second=progress.tokens_per_second or 0.0,
        step_seconds=progress.step_seconds or 0.0,
        eta_seconds=progress.eta_s or 0.0,
        peak_bytes=progress.peak_bytes or 0,
        held_out_loss=progress.held_out_loss,
    )


def _write_climb(progress: Progress, techniques: Techniques, plan: JobPlan) -> training_job_pb2.MemoryClimb:
    predicted = {rung.techniques: rung.predicted_peak_bytes for rung in plan.rungs}
    return training_job_pb2.MemoryClimb(
        phase=progress.phase,
        step=progress.step,
        peak_bytes=progress.peak_bytes or 0,
        summary=describe(techniques),
        micro_batch_rows=techniques.micro_batch_rows,
        predicted_peak_bytes=predicted.get(techniques, 0),
        message=progress.message,
    )
