"""Registers imports: the version, the job that judges it, and the request, in one transaction."""

from dataclasses import replace

from sqlalchemy import Connection

from adaptory.core.names import TrainingJobName, VersionName
from trainer_svc.clock import Clock
from trainer_svc.jobs.job import JobDraft
from trainer_svc.jobs.store import add_job
from trainer_svc.registry.database import Database
from trainer_svc.registry.identifiers import make_id
from trainer_svc.registry.requests import RequestKey, find_answer, record_answer
from trainer_svc.registry.versions import Version, VersionDraft, read_version, register_version


class ImportStore:
    """Keeps imported versions in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find_made(self, request: RequestKey) -> Version | None:
        """Return the version the same request made before, None when it is new. Raises AlreadyExists."""
        return await self._database.read(lambda transaction: _find_made(transaction, request))

    async def create(self, draft: VersionDraft, job: JobDraft | None, request: RequestKey) -> Version:
        """Register a version, and the job that judges it, if one does; or return what the same request made. Raises AlreadyExists."""
        now = self._clock()

        def register(transaction: Connection) -> Version:
            if made := _find_made(transaction, request):
                return made
            drafted = draft
            if job is not None:
                name = TrainingJobName(request.tenant, make_id("job"))
                add_job(transaction, name, job, now=now)
                drafted = _judged_by(draft, name)
            version = register_version(transaction, drafted, now=now)
            record_answer(transaction, request, name=str(version.name), now=now)
            return version

        return await self._database.write(register)


def _judged_by(draft: VersionDraft, job: TrainingJobName) -> VersionDraft:
    rejection = f"It was imported, and {job} has not judged it: that job waits, runs, or has ended without success."
    return replace(draft, job=job.job, rejection=rejection, lineage=replace(draft.lineage, training_job=str(job)))


def _find_made(transaction: Connection, request: RequestKey) -> Version | None:
    made = find_answer(transaction, request)
    return read_version(transaction, VersionName.parse(made, field="name")) if made else None
