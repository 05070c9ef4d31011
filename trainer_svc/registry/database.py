"""The registry's database: opened and migrated here, written by one thread, read by a few, never touched on the event loop.

SQLite in WAL mode is the default: synchronous=FULL, because NORMAL may lose the last commits on a power cut, and BEGIN IMMEDIATE
for writes, because a transaction that begins by reading can fail with SQLITE_BUSY however long the timeout. Others come by URL.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import alembic.command
import alembic.config
import alembic.util
from pydantic_core import to_json
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from adaptory.core.errors import FailedPrecondition, Unavailable
from trainer_svc.registry.pulse import Pulse

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MS = 10_000
_MAX_READERS = 4
_RETRY_AFTER_S = 1.0

T = TypeVar("T")


class Database:
    """Runs transactions in threads. `commits` beats after every write, so a task that follows the state never polls.

    A context manager: migrated at the start, closed at the end.
    """

    def __init__(self, url: str) -> None:
        """Name the database by an SQLAlchemy URL, such as `sqlite:////var/lib/adaptory/registry.db`; nothing is opened yet."""
        self._writes = _make_engine(url, begin="BEGIN IMMEDIATE", max_connections=1)
        self._reads = _make_engine(url, begin="BEGIN", max_connections=_MAX_READERS)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="registry-writer")
        self._readers = ThreadPoolExecutor(_MAX_READERS, thread_name_prefix="registry-reader")
        self.commits = Pulse()

    def __enter__(self) -> Self:
        """Migrate to the newest schema. Raises FailedPrecondition when a newer release wrote the database."""
        _migrate(self._writes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what runs and close."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._writes.dispose()
        self._reads.dispose()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, alone; it commits on return and rolls back on any exception.

        A caller that is cancelled meanwhile does not undo it. Raises Unavailable when the database does not answer.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._writer, _run, self._writes, work)
        # By callback, not after the await: the commit also counts when the caller has gone away.
        future.add_done_callback(lambda _: self.commits.beat())
        return await future

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent view of the state. Raises Unavailable when the database does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_blocking, work)

    def read_blocking(self, work: Callable[[Connection], T]) -> T:
        """Do as `read`, in the caller's own thread: for scrapes, which have one."""
        return _run(self._reads, work)


def _run(engine: Engine, work: Callable[[Connection], T]) -> T:
    try:
        with engine.begin() as transaction:
            return work(transaction)
    except OperationalError as error:
        message = "The registry's database does not answer now; nothing was changed. Try again."
        raise Unavailable(message, reason="DATABASE_UNAVAILABLE", retry_after_s=_RETRY_AFTER_S) from error


def _make_engine(url: str, *, begin: str, max_connections: int) -> Engine:
    engine = create_engine(url, pool_size=max_connections, max_overflow=0, json_serializer=_write_json)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        # pysqlite would begin late and only before writes; with its own control off, BEGIN is ours.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _write_json(value: object) -> str:
    """Write JSON that every database takes: a loss that is NaN, which JSON has no number for, becomes a string pydantic reads."""
    return to_json(value, inf_nan_mode="strings").decode()


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(engine: Engine) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as transaction:
        config.attributes["connection"] = transaction
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.CommandError as error:
            message = f"The registry's database was written by a newer release ({error}); start that release instead."
            raise FailedPrecondition(message, reason="DATABASE_NEWER") from error
