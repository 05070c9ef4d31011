"""How far off predictions were, learned from jobs that ended: what the next plan adds to its own.

Kept by the kind of device a job was planned for, the device its worker ran on, and its base. A planner knows the kind and the base;
it takes the device to be the one that was seen last, since workers run where the trainer does.
"""

from datetime import datetime

from sqlalchemy import Connection, insert, select

from trainer_svc.jobs.job import TrainingJob
from trainer_svc.memory.techniques import DeviceKind
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database
from trainer_svc.registry.versions import Lineage

# The largest of the last jobs counts: a plan must not be tighter than what was seen. Fewer than three say nothing: one odd job
# must not decide.
_MAX_JOBS = 8
_MIN_JOBS = 3


class ResidualStore:
    """Answers what to expect of the next job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expect(self, device: DeviceKind, base_model: str) -> int:
        """Return the bytes to add to what is predicted for a job on this kind of device; negative where predictions were too high.

        0 until enough jobs ended on the device that was seen last.
        """
        return await self._database.read(lambda transaction: _read_largest(transaction, device, base_model))


def record_residual(transaction: Connection, job: TrainingJob, lineage: Lineage, *, now: datetime) -> None:
    """Keep how far off a job's prediction was, within the transaction that ends it.

    A job that climbed did not do what was predicted, and says nothing.
    """
    plan = job.draft.plan
    if plan.device is None or lineage.num_climbs:
        return
    # Against the model alone: what was learned before and added would else be forgotten by learning from it.
    modelled_bytes = lineage.predicted_peak_bytes - plan.residual_bytes
    columns = {
        "device_kind": plan.device,
        "device": lineage.device,
        "base_model": lineage.base_model,
        "residual_bytes": lineage.measured_peak_bytes - modelled_bytes,
        "job": job.name.job,
        "create_time": now,
    }
    transaction.execute(insert(tables.memory_residuals).values(columns))


def _read_largest(transaction: Connection, device: DeviceKind, base_model: str) -> int:
    table = tables.memory_residuals
    of_base = (table.c.device_kind == device, table.c.base_model == base_model)
    newest = table.c.seq.desc()
    seen_last = select(table.c.device).where(*of_base).order_by(newest).limit(1).scalar_subquery()
    query = (
        select(table.c.residual_bytes).where(*of_base, table.c.device == seen_last).order_by(newest).limit(_MAX_JOBS)
    )
    residuals = transaction.execute(query).scalars().all()
    return max(residuals) if len(residuals) >= _MIN_JOBS else 0
