"""One attempt of one job, from its claim to the one transaction that ends it: lay out, train in a child, follow, publish."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from adaptory.core.errors import ServiceError
from trainer_svc.jobs.inputs import InputFinder, JobInputs
from trainer_svc.jobs.job import JobState, MeasuredMemory, TrainingJob
from trainer_svc.jobs.outcome import TrainingFailed, WorkerHung, WorkerLost, read_result, require_success
from trainer_svc.jobs.publish import Publisher
from trainer_svc.jobs.store import AttemptName, AttemptOver, JobStore
from trainer_svc.jobs.workbench import Workbench
from trainer_svc.jobs.worker_process import WorkerCommand, WorkerProcess, run_worker
from trainer_svc.jobs.workspace import Phase, Progress, WorkerResult, Workspace

log = structlog.get_logger()


class AttemptObserver(Protocol):
    """Hears how attempts go; `metrics.py` has the real one."""

    def began(self, job: TrainingJob) -> None:
        """A worker is about to begin."""

    def progressed(self, job: TrainingJob, progress: Progress) -> None:
        """The worker went on."""

    def beat(self, job: TrainingJob, age_s: float) -> None:
        """The worker's last sign of life is this old."""

    def ended(self, job: TrainingJob) -> None:
        """The attempt is over; the job may wait for another."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a worker is looked at, and how long it may give no sign of life."""

    poll_interval_s: float
    heartbeat_timeout_s: float


@dataclass(frozen=True, slots=True)
class AttemptTools:
    """What every attempt uses; built once by `app.py`. `monotonic` returns seconds that never jump."""

    store: JobStore
    inputs: InputFinder
    bench: Workbench
    publisher: Publisher
    command: WorkerCommand
    patience: Patience
    observer: AttemptObserver
    monotonic: Callable[[], float]


class Attempt:
    """Runs one claim of a job. Whatever happens, the job is moved on: it ends, or it waits for another attempt."""

    def __init__(self, tools: AttemptTools, job: TrainingJob) -> None:
        """Take a job that was just claimed."""
        self._tools = tools
        self._job = job
        self._name = AttemptName(job.name, job.attempt)
        self._num_climbs = 0
        self._measured = MeasuredMemory()

    async def run(self) -> None:
        """Do everything. When it is cancelled, which means that the service stops, the job waits again."""
        self._tools.observer.began(self._job)
        try:
            self._job = await self._finish()
        except AttemptOver:
            self._job = await self._tools.store.get(self._job.name)
        except asyncio.CancelledError:
            self._job = await self._give_back()
            raise
        finally:
            self._tools.observer.ended(self._job)
            log.info("attempt_ended", job=str(self._name.job), attempt=self._name.number, state=self._job.state)

    async def _give_back(self) -> TrainingJob:
        """Let the job wait again, unless its end was written just before."""
        try:
            return await self._tools.store.release(self._name)
        except AttemptOver:
            return await self._tools.store.get(self._job.name)

    async def _finish(self) -> TrainingJob:
        """Make the attempt and return the job as it left it."""
        store = self._tools.store
        try:
            return await self._train_and_publish()
        except WorkerLost as error:
            return await store.lose(self._name, error)
        except ServiceError as error:
            return await store.fail(self._name, error, self._measured)
        except AttemptOver:
            raise
        except Exception:
            # The runner's edge: one job's surprise must not stop the others.
            log.exception("attempt_broke", job=str(self._name.job), attempt=self._name.number)
            surprise = TrainingFailed("Something failed inside the service; its log tells more.", reason="INTERNAL")
            return await store.fail(self._name, surprise, self._measured)

    async def _train_and_publish(self) -> TrainingJob:
        tools = self._tools
        inputs = await tools.inputs.find(self._job.draft.bot, self._job.draft.dataset)
        async with tools.bench.lay_out(self._job, inputs) as workspace:
            result = await self._train(workspace)
            self._measured = MeasuredMemory(result.peak_bytes, result.phase_peak_bytes, result.num_climbs)
            require_success(result, self._job.draft.plan)
            return await self._publish(inputs, workspace, result)

    async def _train(self, workspace: Workspace) -> WorkerResult:
        async with run_worker(self._tools.command, workspace) as worker:
            await self._follow(worker, workspace)
            result = read_result(workspace, worker.exit_code)
        # Counted as they were reported: a worker that fails leaves no count.
        return replace(result, num_climbs=self._num_climbs)

    async def _publish(self, inputs: JobInputs, workspace: Workspace, result: WorkerResult) -> TrainingJob:
        job = await self._tools.store.stage(self._name, self._measured)
        if job.state is not JobState.PUBLISHING:
            return job
        return await self._tools.publisher.publish(job, inputs, workspace, result)

    async def _follow(self, worker: WorkerProcess, workspace: Workspace) -> None:
        """Return when the worker has ended, which is made to happen when the job is cancelled. Raises WorkerHung."""
        patience, heartbeat = self._tools.patience, Heartbeat(workspace, self._tools.monotonic)
        offset, has_ended = 0, False
        while not has_ended:
            has_ended = await worker.wait(patience.poll_interval_s)
            offset, state = await self._record_progress(workspace, offset)
            if state is JobState.CANCELLING:
                await worker.stop()
            age_s = heartbeat.measure_age_s()
            self._tools.observer.beat(self._job, age_s)
            if age_s > patience.heartbeat_timeout_s and not has_ended:
                await worker.kill()
                raise _hung(age_s, patience.heartbeat_timeout_s)

    async def _record_progress(self, workspace: Workspace, offset: int) -> tuple[int, JobState]:
        lines = await asyncio.to_thread(lambda: list(workspace.read_progress(offset)))
        for progress, _ in lines:
            self._num_climbs += progress.climbed_to is not None
            self._tools.observer.progressed(self._job, progress)
        state = await self._tools.store.record_progress(self._name, thin_out([progress for progress, _ in lines]))
        return (lines[-1][1] if lines else offset), state


class Heartbeat:
    """Measures how old a worker's last sign of life is, by a clock that never jumps."""

    def __init__(self, workspace: Workspace, monotonic: Callable[[], float]) -> None:
        """Begin now: a worker gets as long for its first sign as for the next."""
        self._file = workspace.heartbeat_file
        self._monotonic = monotonic
        self._seen_ns = 0
        self._since_s = monotonic()

    def measure_age_s(self) -> float:
        """Return seconds since the file was last seen to change."""
        beat_ns = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if beat_ns != self._seen_ns:
            self._seen_ns, self._since_s = beat_ns, self._monotonic()
        return self._monotonic() - self._since_s


def thin_out(lines: list[Progress]) -> list[Progress]:
    """Leave out steps that another follows at once: a fast worker would else fill the history, and nobody could watch it.

    Those with a loss on held-out rows stay: there are few, and the version's card draws them.
    """
    return [line for place, line in enumerate(lines) if not _is_overtaken(line, lines[place + 1 : place + 2])]


def _is_overtaken(line: Progress, later: list[Progress]) -> bool:
    return (
        line.phase is Phase.STEP
        and not line.message
        and line.held_out_loss is None
        and bool(later)
        and later[0].phase is Phase.STEP
        and not later[0].message
    )


def _hung(age_s: float, limit_s: float) -> WorkerHung:
    message = f"The worker gave no sign of life for {age_s:.0f} s and was ended; at most {limit_s:.0f} s are allowed."
    return WorkerHung(message, metadata={"age_s": f"{age_s:.0f}", "limit_s": f"{limit_s:.0f}"})
