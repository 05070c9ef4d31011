"""Datasets: what each is and how far its upload is. Their bytes are in `uploads.py` while they come, in the artifact store after."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from adaptory.core.auth import not_found
from adaptory.core.names import DatasetName, TenantName
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.report import DatasetReport
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database
from trainer_svc.registry.identifiers import make_id
from trainer_svc.registry.pages import Page, PageRequest
from trainer_svc.registry.requests import RequestKey, find_answer, record_answer
from trainer_svc.registry.tenants import read_tenant


class DatasetState(enum.StrEnum):
    """How far an upload is."""

    UPLOADING = "UPLOADING"
    READY = "READY"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class DatasetDraft:
    """What a new dataset is to be."""

    kind: BotKind
    format: DatasetFormat
    display_name: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset as it is now; `digest` is empty until it is READY."""

    name: DatasetName
    draft: DatasetDraft
    state: DatasetState
    size_bytes: int
    digest: str
    report: DatasetReport
    create_time: datetime
    seq: int


class Datasets:
    """Keeps datasets in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, draft: DatasetDraft, request: RequestKey) -> Dataset:
        """Begin an upload, or return what the same request began before. Raises NotFound for the tenant, AlreadyExists."""
        tenant = TenantName(request.tenant)
        name = DatasetName(request.tenant, make_id("ds"))
        now = self._clock()

        def insert_dataset(transaction: Connection) -> Dataset:
            read_tenant(transaction, tenant)
            if made := find_answer(transaction, request):
                return read_dataset(transaction, DatasetName(request.tenant, made))
            transaction.execute(
                insert(tables.datasets).values(
                    tenant=name.tenant,
                    dataset=name.dataset,
                    kind=draft.kind,
                    format=draft.format,
                    display_name=draft.display_name,
                    state=DatasetState.UPLOADING,
                    size_bytes=0,
                    digest="",
                    report=DatasetReport().to_json(),
                    create_time=now,
                )
            )
            record_answer(transaction, request, name=name.dataset, now=now)
            return read_dataset(transaction, name)

        return await self._database.write(insert_dataset)

    async def get(self, name: DatasetName) -> Dataset:
        """Return a dataset. Raises NotFound."""
        return await self._database.read(lambda transaction: read_dataset(transaction, name))

    async def list(self, tenant: TenantName, page: PageRequest) -> Page[Dataset]:
        """Return a page of a tenant's datasets, newest first. Raises NotFound when there is no such tenant."""
        table = tables.datasets
        query = select(table).where(table.c.tenant == tenant.tenant)
        if (before := page.after_number()) is not None:
            query = query.where(table.c.seq < before)
        query = query.order_by(table.c.seq.desc()).limit(page.size + 1)

        def read_datasets(transaction: Connection) -> list[Dataset]:
            read_tenant(transaction, tenant)
            return [to_dataset(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_datasets), key=lambda dataset: dataset.seq)


def read_dataset(transaction: Connection, name: DatasetName) -> Dataset:
    """Return a dataset within a transaction. Raises NotFound."""
    table = tables.datasets
    query = select(table).where(table.c.tenant == name.tenant, table.c.dataset == name.dataset)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise not_found(str(name))
    return to_dataset(row)


def write_size(transaction: Connection, dataset: Dataset, size_bytes: int) -> None:
    """Note how many bytes were received."""
    table = tables.datasets
    transaction.execute(update(table).where(table.c.seq == dataset.seq).values(size_bytes=size_bytes))


def write_verdict(transaction: Connection, dataset: Dataset, report: DatasetReport, digest: str) -> None:
    """Make a dataset READY under its digest or, where that is empty, REJECTED."""
    table = tables.datasets
    state = DatasetState.READY if digest else DatasetState.REJECTED
    transaction.execute(
        update(table).where(table.c.seq == dataset.seq).values(state=state, digest=digest, report=report.to_json())
    )


def to_dataset(row: Row[Any]) -> Dataset:
    """Turn a row of the table into what it says."""
    return Dataset(
        name=DatasetName(row.tenant, row.dataset),
        draft=DatasetDraft(BotKind(row.kind), DatasetFormat(row.format), row.display_name),
        state=DatasetState(row.state),
        size_bytes=row.size_bytes,
        digest=row.digest,
        report=DatasetReport.from_json(row.report),
        create_time=row.create_time,
        seq=row.seq,
    )
