"""The history of each job: numbered without gaps, written in the transaction of what it tells, followed by any number of watchers."""

import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from adaptory.core.names import TrainingJobName
from trainer_svc.jobs.job import JobEvent, JobState
from trainer_svc.jobs.workspace import Progress, progress_from_json
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database

_MAX_EVENTS_READ = 500


class JobEvents:
    """Streams histories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, job: TrainingJobName, *, after: int) -> AsyncGenerator[JobEvent, None]:
        """Yield the events after a sequence number, then new ones, up to that of a final state.

        Ends at once when the job ended at or before `after`. Raises Unavailable when the service stops.
        """
        is_over = False
        while not is_over:
            # Counted before reading: a commit in between then wakes us again.
            commits = self._database.commits.count
            events, is_over = await self._database.read(partial(_read_news, job=job, after=after))
            for event in events:
                yield event
                after = event.sequence
            if not events and not is_over:
                await self._database.commits.wait_beyond(commits)


def append_event(
    transaction: Connection, job: TrainingJobName, body: JobState | Progress | str, *, now: datetime
) -> None:
    """Add an event to a job's history."""
    table = tables.job_events
    newest = select(func.max(table.c.sequence)).where(table.c.job == job.job)
    sequence = (transaction.execute(newest).scalar_one() or 0) + 1
    kind, raw = _to_json(body)
    transaction.execute(insert(table).values(job=job.job, sequence=sequence, time=now, kind=kind, body=raw))


def _read_news(transaction: Connection, *, job: TrainingJobName, after: int) -> tuple[list[JobEvent], bool]:
    """Return the next events, and whether they are the last there will ever be."""
    table, jobs = tables.job_events, tables.training_jobs
    query = (
        select(table)
        .where(table.c.job == job.job, table.c.sequence > after)
        .order_by(table.c.sequence)
        .limit(_MAX_EVENTS_READ)
    )
    events = [_to_event(row) for row in transaction.execute(query)]
    state = transaction.execute(select(jobs.c.state).where(jobs.c.job == job.job)).scalar_one()
    return events, JobState(state).is_final and len(events) < _MAX_EVENTS_READ


def _to_json(body: JobState | Progress | str) -> tuple[str, object]:
    match body:
        case JobState():
            return "STATE", body.value
        case Progress():
            return "PROGRESS", asdict(body)
        case _:
            return "MESSAGE", body


def _to_event(row: Row[Any]) -> JobEvent:
    body: JobState | Progress | str
    match row.kind:
        case "STATE":
            body = JobState(row.body)
        case "PROGRESS":
            body = progress_from_json(json.dumps(row.body))
        case _:
            body = row.body
    return JobEvent(row.sequence, row.time, body)
