"""Jobs in the database, under any order of what may happen to them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, select

from adaptory.core.errors import AlreadyExists, FailedPrecondition
from adaptory.core.names import TrainingJobName
from tests.fakes.jobs import open_database, request_key, version_draft
from trainer_svc.clock import read_utc
from trainer_svc.jobs.job import IllegalStep, JobState, MeasuredMemory, TrainingJob
from trainer_svc.jobs.outcome import TrainingFailed, WorkerLost
from trainer_svc.jobs.store import AttemptName, AttemptOver, JobStore
from trainer_svc.registry import tables

LOST = WorkerLost("The worker is gone.")
FAILED = TrainingFailed("It broke.")


class JobLife(RuleBasedStateMachine):
    """Does anything to any job, by current and by given-up attempts, in any order; the invariants must hold throughout."""

    attempts = Bundle("attempts")

    @initialize()
    def open(self) -> None:
        """Open a fresh database."""
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        opening = self.stack.enter_async_context(open_database(folder))
        self.database, self.draft = self.loop.run_until_complete(opening)
        self.store = JobStore(self.database, read_utc)
        self.ends: dict[str, JobState] = {}

    def teardown(self) -> None:
        """Close the database."""
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    @rule()
    def create(self) -> None:
        """A caller submits a job."""
        self.loop.run_until_complete(self.store.create(self.draft, request_key()))

    @rule(target=attempts)
    def claim(self) -> AttemptName:
        """The runner takes the oldest job that waits; a name that fits no job where none does."""
        job = self.loop.run_until_complete(self.store.claim())
        return AttemptName(job.name, job.attempt) if job else AttemptName(self.any_job().name, 99)

    @rule(attempt=attempts, step=st.sampled_from(["stage", "publish", "fail", "release", "lose"]))
    def act(self, attempt: AttemptName, step: str) -> None:
        """An attempt, perhaps one that was given up long ago, goes on."""
        actions = {
            "stage": lambda: self.store.stage(attempt, MeasuredMemory(1)),
            "publish": lambda: self.store.publish(attempt, version_draft(attempt.job.job)),
            "fail": lambda: self.store.fail(attempt, FAILED, MeasuredMemory(1)),
            "release": lambda: self.store.release(attempt),
            "lose": lambda: self.store.lose(attempt, LOST),
        }
        try:
            self.loop.run_until_complete(actions[step]())
        except (AttemptOver, IllegalStep):
            return

    @rule(attempt=attempts)
    def cancel(self, attempt: AttemptName) -> None:
        """A caller asks a job to stop."""
        try:
            self.loop.run_until_complete(self.store.cancel(attempt.job))
        except FailedPrecondition:
            assert self.ends[attempt.job.job]

    @rule()
    def restart(self) -> None:
        """The service dies and comes back."""
        self.loop.run_until_complete(self.store.recover(LOST))
        assert not any(job.state.has_worker for job in self.all_jobs())

    @invariant()
    def ends_once(self) -> None:
        """A job that has ended stays as it ended."""
        for job in self.all_jobs():
            if job.state.is_final:
                assert self.ends.setdefault(job.name.job, job.state) is job.state

    @invariant()
    def has_one_version_if_it_succeeded(self) -> None:
        """A job has a version exactly when it SUCCEEDED, and never two."""
        table = tables.versions
        query = select(table.c.training_job, func.count().label("num_versions")).group_by(table.c.training_job)
        rows = self.database.read_blocking(lambda transaction: transaction.execute(query).all())
        made = {row.training_job: row.num_versions for row in rows}
        succeeded = {job.name.job for job in self.all_jobs() if job.state is JobState.SUCCEEDED}
        assert made == dict.fromkeys(succeeded, 1)

    def all_jobs(self) -> list[TrainingJob]:
        """Return every job."""
        query = select(tables.training_jobs.c.job)
        names = self.database.read_blocking(lambda transaction: transaction.execute(query).scalars().all())
        return [self.loop.run_until_complete(self.store.get(TrainingJobName("aurora", name))) for name in names]

    def any_job(self) -> TrainingJob:
        """Return some job, a new one where there is none."""
        jobs = self.all_jobs()
        return jobs[0] if jobs else self.loop.run_until_complete(self.store.create(self.draft, request_key()))


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    """A store; `draft` of the same database is what a job is made of."""
    async with open_database(tmp_path) as (database, draft):
        opened = JobStore(database, read_utc)
        await opened.create(draft, request_key("first", "one request"))
        yield opened


async def claim(store: JobStore) -> AttemptName:
    """Claim the job that waits."""
    job = await store.claim()
    assert job is not None
    return AttemptName(job.name, job.attempt)


async def test_the_same_request_makes_one_job(store: JobStore) -> None:
    """A request sent again returns the job it made, as it is now."""
    made = await store.find_created(request_key("first", "one request"))
    assert made is not None

    again = await store.create(made.draft, request_key("first", "one request"))

    assert again.name == made.name


async def test_a_request_id_is_not_taken_for_another_request(store: JobStore) -> None:
    """The same id with another request is refused by its own reason."""
    with pytest.raises(AlreadyExists) as refused:
        await store.find_created(request_key("first", "another request"))

    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_a_lost_attempt_is_tried_once_more(store: JobStore) -> None:
    """The first loss sends the job back to wait, the second ends it with the reason."""
    states = [(await store.lose(await claim(store), LOST)).state for _ in range(2)]

    assert states == [JobState.PENDING, JobState.FAILED]


async def test_a_released_job_may_be_tried_for_ever(store: JobStore) -> None:
    """Stops of the service are not counted as losses."""
    states = [(await store.release(await claim(store))).state for _ in range(4)]

    assert states == [JobState.PENDING] * 4


async def test_a_given_up_attempt_writes_nothing(store: JobStore) -> None:
    """What an attempt sends after another was begun is refused."""
    first = await claim(store)
    await store.lose(first, LOST)
    await claim(store)

    with pytest.raises(AttemptOver):
        await store.stage(first, MeasuredMemory(1))


async def test_the_oldest_job_is_claimed_first(store: JobStore) -> None:
    """Jobs run in the order in which they were accepted."""
    first = await store.find_created(request_key("first", "one request"))
    assert first is not None
    await store.create(first.draft, request_key())

    assert (await claim(store)).job == first.name
