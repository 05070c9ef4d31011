"""Which of the jobs before count."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fakes.jobs import open_database, request_key, version_draft
from trainer_svc.clock import read_utc
from trainer_svc.jobs.job import JobDraft
from trainer_svc.jobs.residuals import ResidualStore, record_residual
from trainer_svc.jobs.store import JobStore
from trainer_svc.memory.techniques import DeviceKind
from trainer_svc.registry.database import Database


@dataclass
class History:
    """Jobs that ended, as their residuals alone."""

    database: Database
    draft: JobDraft

    async def add(self, *residuals: int, device: str = "cpu") -> None:
        """Let jobs end on a device, each off by so many bytes."""
        for residual_bytes in residuals:
            job = await JobStore(self.database, read_utc).create(self.draft, request_key())
            lineage = replace(
                version_draft(job.name.job).lineage,
                device=device,
                predicted_peak_bytes=100,
                measured_peak_bytes=100 + residual_bytes,
            )
            await self.database.write(
                lambda transaction, job=job, lineage=lineage: record_residual(transaction, job, lineage, now=read_utc())
            )

    async def expect(self, kind: DeviceKind = DeviceKind.CPU, base: str = "tiny") -> int:
        """Return what the next job is expected to be off by."""
        return await ResidualStore(self.database).expect(kind, base)


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    """No job yet."""
    async with open_database(tmp_path) as (database, draft):
        yield History(database, draft)


async def test_the_largest_of_the_last_eight_counts(history: History) -> None:
    """A plan is as roomy as the worst of the jobs it learns from, and forgets those long past."""
    await history.add(50, *range(-7, 0))
    assert await history.expect() == 50

    await history.add(-9)
    assert await history.expect() == -1


async def test_a_device_that_was_not_there_before_begins_anew(history: History) -> None:
    """What another device taught does not count, until it is the last one again."""
    await history.add(5, 5, 5, device="CPU, 2 threads")
    await history.add(7, 7, device="CPU, 64 threads")
    assert await history.expect() == 0

    await history.add(4, device="CPU, 2 threads")
    assert await history.expect() == 5


async def test_bases_and_kinds_of_device_are_kept_apart(history: History) -> None:
    """Jobs on the CPU say nothing of CUDA, and those of one base nothing of another."""
    await history.add(5, 5, 5)

    assert await history.expect(DeviceKind.CUDA) == 0
    assert await history.expect(base="other") == 0


async def test_a_plan_of_an_earlier_release_teaches_nothing(history: History) -> None:
    """It does not say what it was planned for."""
    draft = history.draft
    history.draft = replace(draft, plan=replace(draft.plan, device=None))
    await history.add(5, 5, 5)

    assert await history.expect() == 0
