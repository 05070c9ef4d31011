"""What operators watch on the trainer: jobs by state, how long they wait, how workers fare, memory against its limit.

Every label is bounded: states and outcomes are fixed words, tenants are capped, and no series is named after a job.
"""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from adaptory.core.telemetry import CappedLabel
from trainer_svc.clock import Clock
from trainer_svc.jobs.job import JobState, TrainingJob
from trainer_svc.jobs.workspace import Phase, Progress
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database

# From a tiny step on a GPU to a large one on two cores.
_STEP_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Around 1, which is a plan that was right.
_PEAK_RATIOS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)


class AttemptMetrics:
    """Hears how attempts go (an `AttemptObserver`). Gauges by tenant tell of the tenant's last job."""

    def __init__(self, registry: CollectorRegistry, *, max_tenants: int) -> None:
        """Name at most `max_tenants` tenants; the others are counted as `other`."""
        self._tenants = CappedLabel(max_tenants)
        self._ages_s: dict[str, float] = {}
        heartbeat = _gauge(
            registry, "heartbeat_age_seconds", "Age of the oldest running worker's last sign of life.", ()
        )
        heartbeat.set_function(lambda: max(self._ages_s.values(), default=0.0))
        tenant = ("tenant",)
        self._step_seconds = Histogram(
            "adaptory_trainer_step_seconds", "Optimizer steps.", tenant, buckets=_STEP_SECONDS, registry=registry
        )
        self._speed = _gauge(registry, "tokens_per_second", "Tokens through the step.", tenant)
        self._loss = _gauge(registry, "loss", "Mean loss over the learned tokens of the last step, in nats.", tenant)
        self._planned = _gauge(registry, "planned_peak_bytes", "Peak that was predicted.", tenant)
        self._measured = _gauge(registry, "measured_peak_bytes", "Peak that was measured.", tenant)
        self._limit = _gauge(registry, "memory_limit_bytes", "Limit that is kept.", tenant)
        by_phase = (*tenant, "phase")
        self._phase_planned = _gauge(registry, "phase_planned_peak_bytes", "Predicted peak of a phase.", by_phase)
        self._phase_measured = _gauge(
            registry, "phase_measured_peak_bytes", "Measured peak of a phase; 0 where it was not reached.", by_phase
        )
        self._peak_error = Histogram(
            "adaptory_trainer_peak_error_ratio",
            "Measured peak by predicted peak, of jobs that ended.",
            buckets=_PEAK_RATIOS,
            registry=registry,
        )
        self._climbs = Counter(
            "adaptory_trainer_memory_climbs",
            "Times that memory ran out and a job went on with less.",
            tenant,
            registry=registry,
        )
        self._ended = Counter(
            "adaptory_trainer_jobs_ended", "Jobs ended, by outcome.", (*tenant, "outcome"), registry=registry
        )

    def began(self, job: TrainingJob) -> None:
        """Show the job's plan."""
        tenant = self._tenants.name(job.name.tenant)
        self._ages_s[job.name.job] = 0.0
        self._planned.labels(tenant).set(job.draft.plan.predicted_peak_bytes)
        self._limit.labels(tenant).set(job.draft.plan.limit_bytes)
        self._measured.labels(tenant).set(0)
        # Also before the first: a series that begins at 1 shows no increase.
        self._climbs.labels(tenant)

    def progressed(self, job: TrainingJob, progress: Progress) -> None:
        """Show what was measured."""
        tenant = self._tenants.name(job.name.tenant)
        if progress.climbed_to is not None:
            self._climbs.labels(tenant).inc()
        if progress.step_seconds is not None:
            self._step_seconds.labels(tenant).observe(progress.step_seconds)
        for gauge, value in (
            (self._speed, progress.tokens_per_second),
            (self._loss, progress.loss),
            (self._measured, progress.peak_bytes),
        ):
            if value is not None:
                gauge.labels(tenant).set(value)

    def beat(self, job: TrainingJob, age_s: float) -> None:
        """Show the age of the last sign of life."""
        self._ages_s[job.name.job] = age_s

    def ended(self, job: TrainingJob) -> None:
        """Show the peaks, count a job that is final, and forget the worker."""
        self._ages_s.pop(job.name.job, None)
        tenant, plan, measured = self._tenants.name(job.name.tenant), job.draft.plan, job.measured
        for phase in Phase:
            self._phase_planned.labels(tenant, phase).set(plan.phases.get(phase, 0))
            self._phase_measured.labels(tenant, phase).set(measured.phase_bytes.get(phase, 0))
        if measured.peak_bytes:
            self._measured.labels(tenant).set(measured.peak_bytes)
        if job.state.is_final:
            # A judging is planned for more than it takes, on purpose: it tells nothing of the plans of trainings.
            if measured.peak_bytes and job.draft.judged_files is None:
                self._peak_error.observe(measured.peak_bytes / plan.predicted_peak_bytes)
            self._ended.labels(tenant, job.state.lower()).inc()


class JobCollector:
    """Counts jobs in the database at every scrape: what it shows is right also after a restart."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield jobs by state and the age of the job that waits longest, in seconds; 0 when none waits."""
        numbers, oldest = self._database.read_blocking(_count_jobs)
        jobs = GaugeMetricFamily("adaptory_trainer_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            jobs.add_metric([state.lower()], numbers.get(state, 0))
        yield jobs
        age_s = (self._clock() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("adaptory_trainer_queue_age_seconds", "Wait of the job that waits longest.", age_s)


def _count_jobs(transaction: Connection) -> tuple[dict[str, int], datetime | None]:
    table = tables.training_jobs
    numbers = transaction.execute(select(table.c.state, func.count()).group_by(table.c.state)).all()
    oldest = select(table.c.create_time).where(table.c.state == JobState.PENDING).order_by(table.c.seq).limit(1)
    return {state: number for state, number in numbers}, transaction.execute(oldest).scalar_one_or_none()  # noqa: C416 - rows


def _gauge(registry: CollectorRegistry, name: str, documentation: str, labels: tuple[str, ...]) -> Gauge:
    return Gauge(f"adaptory_trainer_{name}", documentation, labels, registry=registry)
