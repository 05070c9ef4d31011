"""The registry's database."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select

from adaptory.core.errors import FailedPrecondition
from trainer_svc.clock import read_utc
from trainer_svc.registry import tables
from trainer_svc.registry.database import Database


def url_of(folder: Path) -> str:
    """Return a database in a folder."""
    return f"sqlite:///{folder / 'registry.db'}"


async def test_migrations_make_the_tables_the_code_knows(tmp_path: Path) -> None:
    """A fresh database has exactly the tables of `tables.py`."""

    def compare(transaction: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(transaction), tables.metadata))

    with Database(url_of(tmp_path)) as database:
        differences = await database.read(compare)

    assert differences == []


async def test_writes_survive_a_power_cut(tmp_path: Path) -> None:
    """Every commit is flushed (FULL is 2), and foreign keys are enforced."""
    with Database(url_of(tmp_path)) as database:
        pragmas = ("synchronous", "foreign_keys", "journal_mode")
        found = [
            await database.write(lambda tx, pragma=pragma: tx.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())
            for pragma in pragmas
        ]

    assert found == [2, 1, "wal"]


async def test_a_write_that_raises_changes_nothing(tmp_path: Path) -> None:
    """What a transaction did before it failed is undone."""

    def write_then_fail(transaction: Connection) -> None:
        values = {"tenant": "aurora", "display_name": "", "max_requests_in_flight": 0, "create_time": read_utc()}
        transaction.execute(insert(tables.tenants).values(values))
        raise ZeroDivisionError

    with Database(url_of(tmp_path)) as database:
        with pytest.raises(ZeroDivisionError):
            await database.write(write_then_fail)

        assert await database.read(lambda transaction: transaction.execute(select(tables.tenants)).all()) == []


async def test_a_moment_comes_back_with_its_zone(tmp_path: Path) -> None:
    """Times are kept to the microsecond and never lose UTC."""
    now = read_utc()

    def insert_tenant(transaction: Connection) -> None:
        values = {"tenant": "aurora", "display_name": "", "max_requests_in_flight": 0, "create_time": now}
        transaction.execute(insert(tables.tenants).values(values))

    with Database(url_of(tmp_path)) as database:
        await database.write(insert_tenant)
        found = await database.read(lambda tx: tx.execute(select(tables.tenants.c.create_time)).scalar_one())

    assert found == now


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """A database with a migration this release does not know is not touched."""
    with Database(url_of(tmp_path)) as database:
        await database.write(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(FailedPrecondition) as refused, Database(url_of(tmp_path)):
        pass

    assert refused.value.reason == "DATABASE_NEWER"
