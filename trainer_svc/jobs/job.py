"""A training job: what it is, the states it goes through, and the one table of steps between them.

Pure: no clock, no database. `store.py` keeps jobs and applies `advance` inside a transaction.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adaptory.core.names import BotName, DatasetName, TrainingJobName, VersionName
from trainer_svc.jobs.workspace import Progress, Rung, TrainingSettings
from trainer_svc.memory.techniques import DeviceKind, Method, Techniques


class JobState(enum.StrEnum):
    """Where a job is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PUBLISHING = "PUBLISHING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    @property
    def has_worker(self) -> bool:
        """Whether an attempt is under way."""
        return self in (JobState.RUNNING, JobState.PUBLISHING, JobState.CANCELLING)


class JobStep(enum.StrEnum):
    """What may happen to a job."""

    CLAIM = "CLAIM"  # the runner takes it
    STAGE = "STAGE"  # the worker has left an adapter
    PUBLISH = "PUBLISH"  # the adapter is stored and registered
    FAIL = "FAIL"  # the attempt failed, and would again
    RELEASE = "RELEASE"  # the attempt ended through no fault of the job: it waits for another
    CANCEL = "CANCEL"  # a caller asked


class IllegalStep(Exception):
    """A step that does not exist: our own mistake, never a caller's."""


_STEPS = {
    (JobState.PENDING, JobStep.CLAIM): JobState.RUNNING,
    (JobState.PENDING, JobStep.CANCEL): JobState.CANCELLED,
    (JobState.RUNNING, JobStep.STAGE): JobState.PUBLISHING,
    (JobState.RUNNING, JobStep.FAIL): JobState.FAILED,
    (JobState.RUNNING, JobStep.RELEASE): JobState.PENDING,
    (JobState.RUNNING, JobStep.CANCEL): JobState.CANCELLING,
    (JobState.PUBLISHING, JobStep.PUBLISH): JobState.SUCCEEDED,
    (JobState.PUBLISHING, JobStep.FAIL): JobState.FAILED,
    (JobState.PUBLISHING, JobStep.RELEASE): JobState.PENDING,
    (JobState.PUBLISHING, JobStep.CANCEL): JobState.CANCELLING,
    # Whatever its worker does next, a job that is to be cancelled is cancelled.
    (JobState.CANCELLING, JobStep.STAGE): JobState.CANCELLED,
    (JobState.CANCELLING, JobStep.PUBLISH): JobState.CANCELLED,
    (JobState.CANCELLING, JobStep.FAIL): JobState.CANCELLED,
    (JobState.CANCELLING, JobStep.RELEASE): JobState.CANCELLED,
    (JobState.CANCELLING, JobStep.CANCEL): JobState.CANCELLING,
}


def advance(state: JobState, step: JobStep) -> JobState:
    """Return the state after a step. Raises IllegalStep when the state does not allow it; final states allow none."""
    try:
        return _STEPS[state, step]
    except KeyError:
        raise IllegalStep(f"a {state} job cannot {step}") from None


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How to train, what share of the entries to hold out for judging, and on which base values the adapter learns."""

    training: TrainingSettings
    held_out_share: float
    method: Method = Method.QLORA


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How a job keeps its limit, in bytes above the worker's start-up baseline.

    `terms` say what a step is made of, `phases` the peak of each phase. `expected_seconds` are those of training and judging, 0
    where the device's speed is not known. `device` is what it was planned for, and `residual_bytes` what of its `context` was learned
    from earlier jobs; plans of earlier releases say neither.
    """

    limit_bytes: int
    predicted_peak_bytes: int
    smallest_limit_bytes: int
    terms: Mapping[str, int]
    phases: Mapping[str, int]
    accumulation: int
    rungs: tuple[Rung, ...]
    expected_seconds: float = 0.0
    device: DeviceKind | None = None
    residual_bytes: int = 0

    @property
    def techniques(self) -> Techniques:
        """How the job begins; `rungs` has what it goes on with when memory runs out."""
        return self.rungs[0].techniques


@dataclass(frozen=True, slots=True)
class JobDraft:
    """A job that was checked and planned. `memory_limit_bytes` is as asked for, 0 for all there is; the plan has what counts.

    Of a job that trains nothing but judges an imported version, `judged_files` maps its files to digests in the artifact store.
    """

    bot: BotName
    dataset: DatasetName
    settings: JobSettings
    memory_limit_bytes: int
    plan: JobPlan
    judged_files: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """What the last attempt that left a result took, in bytes above the worker's baseline; `phase_bytes` are the peaks of its phases.

    `num_climbs` counts how often memory ran out and the attempt went on with the next rung.
    """

    peak_bytes: int = 0
    phase_bytes: Mapping[str, int] = field(default_factory=dict)
    num_climbs: int = 0


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One job as it is now. `error` is a serialised google.rpc.Status, empty unless FAILED; `seq` orders jobs by age.

    `attempt` counts the claims; `num_lost` those whose worker or service died.
    """

    name: TrainingJobName
    draft: JobDraft
    state: JobState
    attempt: int
    num_lost: int
    progress: Progress | None
    version: VersionName | None
    error: bytes
    measured: MeasuredMemory
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    seq: int


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One thing that happened: a state entered, progress, or a sentence for people. `sequence` counts from 1."""

    sequence: int
    time: datetime
    body: JobState | Progress | str
