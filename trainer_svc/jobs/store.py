"""Keeps jobs: every step is one transaction that checks the state, the attempt, and writes the history along.

An attempt is named by its number, which rises with every claim: what an attempt that was given up still tries to write is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from adaptory.core.auth import not_found
from adaptory.core.errors import FailedPrecondition, ServiceError
from adaptory.core.names import TenantName, TrainingJobName
from adaptory.core.rpc import to_status
from trainer_svc.clock import Clock
from trainer_svc.jobs.events import append_event
from trainer_svc.jobs.job import JobDraft, JobState, JobStep, MeasuredMemory, TrainingJob, advance
from trainer_svc.jobs.records import draft_columns, measured_columns, to_job
from trainer_svc.jobs.residuals import record_residual
from trainer_svc.jobs.workspace import Progress
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database
from trainer_svc.registry.identifiers import make_id
from trainer_svc.registry.judgements import Judgement, judge_version
from trainer_svc.registry.pages import Page, PageRequest
from trainer_svc.registry.requests import RequestKey, find_answer, record_answer
from trainer_svc.registry.tenants import read_tenant
from trainer_svc.registry.versions import Version, VersionDraft, register_version

# A lost attempt is not the job's fault, but a job that loses every worker must not go round for ever.
_MAX_LOST = 1


class AttemptOver(Exception):
    """The job belongs to another attempt by now, or has ended: this one must write nothing more."""


@dataclass(frozen=True, slots=True)
class AttemptName:
    """One claim of a job."""

    job: TrainingJobName
    number: int

    def __str__(self) -> str:
        """Return a text that may name a file."""
        return f"{self.job.job}-{self.number}"


class JobStore:
    """Keeps training jobs in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, draft: JobDraft, request: RequestKey) -> TrainingJob:
        """Accept a job, or return the one the same request made before. Raises NotFound for the tenant, AlreadyExists."""
        name = TrainingJobName(request.tenant, make_id("job"))
        now = self._clock()

        def insert_job(transaction: Connection) -> TrainingJob:
            if made := find_answer(transaction, request):
                return _read_job(transaction, TrainingJobName(request.tenant, made))
            add_job(transaction, name, draft, now=now)
            record_answer(transaction, request, name=name.job, now=now)
            return _read_job(transaction, name)

        return await self._database.write(insert_job)

    async def find_created(self, request: RequestKey) -> TrainingJob | None:
        """Return the job the same request made before, None when it is new. Raises AlreadyExists."""

        def find_job(transaction: Connection) -> TrainingJob | None:
            made = find_answer(transaction, request)
            return _read_job(transaction, TrainingJobName(request.tenant, made)) if made else None

        return await self._database.read(find_job)

    async def get(self, name: TrainingJobName) -> TrainingJob:
        """Return a job. Raises NotFound."""
        return await self._database.read(lambda transaction: _read_job(transaction, name))

    async def list(self, tenant: TenantName, page: PageRequest) -> Page[TrainingJob]:
        """Return a page of a tenant's jobs, newest first. Raises NotFound when there is no such tenant."""
        table = tables.training_jobs
        query = select(table).where(table.c.tenant == tenant.tenant)
        if (before := page.after_number()) is not None:
            query = query.where(table.c.seq < before)
        query = query.order_by(table.c.seq.desc()).limit(page.size + 1)

        def read_jobs(transaction: Connection) -> Sequence[TrainingJob]:
            read_tenant(transaction, tenant)
            return [to_job(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_jobs), key=lambda job: job.seq)

    async def cancel(self, name: TrainingJobName) -> TrainingJob:
        """Ask a job to stop. Raises NotFound, and FailedPrecondition (JOB_ENDED) when it is final."""

        def cancel_job(transaction: Connection) -> TrainingJob:
            job = _read_job(transaction, name)
            if job.state.is_final:
                message = f"{name} is {job.state}; there is nothing left to cancel."
                metadata = {"name": name, "state": job.state}
                raise FailedPrecondition(message, reason="JOB_ENDED", metadata=metadata)
            return self._take_step(transaction, job, JobStep.CANCEL)

        return await self._database.write(cancel_job)

    async def claim(self) -> TrainingJob | None:
        """Give the oldest PENDING job to an attempt; None when none waits."""

        def claim_job(transaction: Connection) -> TrainingJob | None:
            job = _find_pending(transaction)
            return job and self._take_step(transaction, job, JobStep.CLAIM, {"attempt": job.attempt + 1})

        # Looked for by a read first: a write that finds nothing would still wake everybody, and us again.
        return await self._database.write(claim_job) if await self._database.read(_find_pending) else None

    async def record_progress(self, attempt: AttemptName, progress: Sequence[Progress]) -> JobState:
        """Add progress to the history and return the job's state, by which the attempt learns of a cancellation."""
        if not progress:
            return await self._database.read(lambda transaction: _read_attempt(transaction, attempt).state)

        def write_progress(transaction: Connection) -> JobState:
            job = _read_attempt(transaction, attempt)
            for line in progress:
                append_event(transaction, job.name, line, now=self._clock())
            _update(transaction, job, {"progress": asdict(progress[-1])})
            return job.state

        return await self._database.write(write_progress)

    async def stage(self, attempt: AttemptName, measured: MeasuredMemory) -> TrainingJob:
        """Note that an adapter was left to publish; a job that was to be cancelled comes back CANCELLED."""
        return await self._step(attempt, JobStep.STAGE, measured_columns(measured))

    async def publish(self, attempt: AttemptName, version: VersionDraft) -> TrainingJob:
        """Register the version and end the job, both or neither; a job that was to be cancelled comes back CANCELLED, without one."""

        def register(transaction: Connection, job: TrainingJob) -> Version:
            record_residual(transaction, job, version.lineage, now=self._clock())
            return register_version(transaction, version, now=self._clock())

        return await self._end_well(attempt, register)

    async def judge(self, attempt: AttemptName, judgement: Judgement) -> TrainingJob:
        """Keep what was found of the version that the job judges, and end the job, as `publish` does."""
        return await self._end_well(
            attempt, lambda transaction, job: judge_version(transaction, job.name.job, judgement)
        )

    async def fail(self, attempt: AttemptName, error: ServiceError, measured: MeasuredMemory) -> TrainingJob:
        """End the job for a reason that another attempt would meet again."""
        columns = {"error": _pack(error), **measured_columns(measured)}
        return await self._step(attempt, JobStep.FAIL, columns)

    async def release(self, attempt: AttemptName) -> TrainingJob:
        """Let the job wait for another attempt, because the service stops."""
        return await self._step(attempt, JobStep.RELEASE, {})

    async def lose(self, attempt: AttemptName, error: ServiceError) -> TrainingJob:
        """Give up an attempt whose worker is gone: the job waits for another the first time, and fails with `error` the second."""
        return await self._database.write(lambda transaction: self._lose(transaction, attempt, error))

    async def recover(self, error: ServiceError) -> None:
        """Give up all attempts of a service that died. Called once, before the runner starts."""
        table = tables.training_jobs
        under_way = select(table).where(table.c.state.in_([state for state in JobState if state.has_worker]))

        def lose_all(transaction: Connection) -> None:
            for job in [to_job(row) for row in transaction.execute(under_way)]:
                self._lose(transaction, AttemptName(job.name, job.attempt), error)

        await self._database.write(lose_all)

    async def _end_well(
        self, attempt: AttemptName, keep_version: Callable[[Connection, TrainingJob], Version]
    ) -> TrainingJob:
        def end_job(transaction: Connection) -> TrainingJob:
            job = _read_attempt(transaction, attempt)
            if advance(job.state, JobStep.PUBLISH) is not JobState.SUCCEEDED:
                return self._take_step(transaction, job, JobStep.PUBLISH)
            kept = keep_version(transaction, job)
            append_event(transaction, job.name, _tell_of_version(kept), now=self._clock())
            return self._take_step(transaction, job, JobStep.PUBLISH, {"version": kept.name.number})

        return await self._database.write(end_job)

    async def _step(self, attempt: AttemptName, step: JobStep, columns: Mapping[str, object]) -> TrainingJob:
        return await self._database.write(
            lambda transaction: self._take_step(transaction, _read_attempt(transaction, attempt), step, columns)
        )

    def _lose(self, transaction: Connection, attempt: AttemptName, error: ServiceError) -> TrainingJob:
        job = _read_attempt(transaction, attempt)
        if job.num_lost >= _MAX_LOST:
            return self._take_step(transaction, job, JobStep.FAIL, {"error": _pack(error)})
        append_event(transaction, job.name, f"{error.message} The job is tried once more.", now=self._clock())
        return self._take_step(transaction, job, JobStep.RELEASE, {"num_lost": job.num_lost + 1})

    def _take_step(
        self, transaction: Connection, job: TrainingJob, step: JobStep, columns: Mapping[str, object] | None = None
    ) -> TrainingJob:
        state, now = advance(job.state, step), self._clock()
        values: dict[str, object] = {**(columns or {}), "state": state}
        if state is JobState.RUNNING:
            values["start_time"] = job.start_time or now
        if state.is_final:
            values["end_time"] = now
        if state is not JobState.FAILED:
            values.pop("error", None)
        _update(transaction, job, values)
        if state is not job.state:
            append_event(transaction, job.name, state, now=now)
        return _read_job(transaction, job.name)


def add_job(transaction: Connection, name: TrainingJobName, draft: JobDraft, *, now: datetime) -> None:
    """Keep a job that was accepted, within a transaction; it waits for a worker."""
    transaction.execute(insert(tables.training_jobs).values({**draft_columns(name, draft), "create_time": now}))
    append_event(transaction, name, JobState.PENDING, now=now)


def _read_job(transaction: Connection, name: TrainingJobName) -> TrainingJob:
    table = tables.training_jobs
    query = select(table).where(table.c.tenant == name.tenant, table.c.job == name.job)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise not_found(str(name))
    return to_job(row)


def _find_pending(transaction: Connection) -> TrainingJob | None:
    table = tables.training_jobs
    query = select(table).where(table.c.state == JobState.PENDING).order_by(table.c.seq).limit(1)
    row = transaction.execute(query).one_or_none()
    return None if row is None else to_job(row)


def _read_attempt(transaction: Connection, attempt: AttemptName) -> TrainingJob:
    job = _read_job(transaction, attempt.job)
    if job.attempt != attempt.number or not job.state.has_worker:
        raise AttemptOver(f"{attempt} is over: the job is {job.state}, attempt {job.attempt}")
    return job


def _update(transaction: Connection, job: TrainingJob, values: Mapping[str, object]) -> None:
    table = tables.training_jobs
    transaction.execute(update(table).where(table.c.seq == job.seq).values(dict(values)))


def _pack(error: ServiceError) -> bytes:
    return bytes(to_status(error).SerializeToString())


def _tell_of_version(version: Version) -> str:
    draft = version.draft
    if draft.evaluation is None:
        return f"{version.name} is {draft.state}."
    verdict = (
        f"was REJECTED: {draft.rejection}"
        if draft.rejection
        else f"is {draft.state}: held-out loss {draft.evaluation.adapter_loss:.3f}."
    )
    return " ".join((f"{version.name} {verdict}", *draft.evaluation.notes))
