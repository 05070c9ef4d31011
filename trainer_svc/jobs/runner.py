"""Runs jobs as they come: claims the oldest, makes an attempt, and never more at once than it may."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from adaptory.core.errors import ServiceError
from trainer_svc.jobs.job import TrainingJob
from trainer_svc.jobs.outcome import WorkerLost
from trainer_svc.jobs.store import JobStore
from trainer_svc.registry.pulse import Pulse

log = structlog.get_logger()

_PAUSE_S = 1.0


class Runner:
    """Owns the attempts under way. Cancel its task to stop: each worker is ended and its job waits again."""

    def __init__(
        self,
        store: JobStore,
        commits: Pulse,
        run_attempt: Callable[[TrainingJob], Awaitable[None]],
        *,
        max_concurrent_jobs: int,
    ) -> None:
        """Take where jobs are, what beats when one may have come, and what makes an attempt of one."""
        self._store = store
        self._commits = commits
        self._run_attempt = run_attempt
        self._max_concurrent_jobs = max_concurrent_jobs
        self._attempts: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Give up the attempts of a service that died; call it once, before `run`."""
        await self._store.recover(WorkerLost("The trainer ended while the job ran."))

    async def run(self) -> None:
        """Run jobs until cancelled."""
        try:
            while True:
                try:
                    await self._run_once()
                except ServiceError:
                    # The database is away for a moment; attempts under way find out for themselves.
                    log.exception("runner_paused")
                    await asyncio.sleep(_PAUSE_S)
        finally:
            for attempt in self._attempts:
                attempt.cancel()
            await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _run_once(self) -> None:
        """Claim what may be claimed, then wait until an attempt ends or a job may have come."""
        # Counted before looking: a job that comes in between then wakes us again.
        commits = self._commits.count
        while len(self._attempts) < self._max_concurrent_jobs and (job := await self._store.claim()):
            self._attempts.add(asyncio.create_task(self._make_attempt(job)))
        news = asyncio.create_task(self._commits.wait_beyond(commits))
        try:
            await asyncio.wait({news, *self._attempts}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        self._attempts = {attempt for attempt in self._attempts if not attempt.done()}

    async def _make_attempt(self, job: TrainingJob) -> None:
        try:
            await self._run_attempt(job)
        except Exception:
            # The attempt could not write its own end: the next start recovers the job, the others go on.
            log.exception("attempt_left_open", job=str(job.name))
