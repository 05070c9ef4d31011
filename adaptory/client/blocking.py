"""The same client for code without asyncio: every method of `AdaptoryClient`, blocking, with the same arguments.

One event loop runs in a thread of the client's own; `_waits` and `_iterates` turn an asyncio method into its blocking twin.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from adaptory.client.aio import DEFAULT_SERVER, DEFAULT_TRAINER, AdaptoryClient
from adaptory.client.bots import Bots
from adaptory.client.chat import Chat
from adaptory.client.completion import Completion
from adaptory.client.datasets import Datasets
from adaptory.client.jobs import Jobs
from adaptory.client.patience import Patience
from adaptory.client.serving import Serving
from adaptory.client.tenants import Tenants
from adaptory.client.usage import UsageBook

Group = TypeVar("Group")
Result = TypeVar("Result")
Params = ParamSpec("Params")

_END = object()


class LoopThread:
    """An event loop in a thread. Not to be used from inside an event loop: it would stop it."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="adaptory-client", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` returns, or raise what it raises; an interrupt cancels it."""
        future: Future[Result] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Twin(Generic[Group]):
    """Blocking twin of one group of methods."""

    def __init__(self, group: Group, thread: LoopThread) -> None:
        """Run the methods of `group` on `thread`."""
        self._group = group
        self._thread = thread


def _waits(
    method: Callable[Concatenate[Group, Params], Awaitable[Result]],
) -> Callable[Concatenate[Twin[Group], Params], Result]:
    @wraps(method)
    def call(twin: Twin[Group], /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        async def work() -> Result:
            return await method(twin._group, *args, **kwargs)  # noqa: SLF001 - the twin's own method

        return twin._thread.wait(work())  # noqa: SLF001 - the twin's own method

    return call


def _iterates(
    method: Callable[Concatenate[Group, Params], AsyncIterator[Result]],
) -> Callable[Concatenate[Twin[Group], Params], Iterator[Result]]:
    @wraps(method)
    def call(twin: Twin[Group], /, *args: Params.args, **kwargs: Params.kwargs) -> Iterator[Result]:
        iterator = method(twin._group, *args, **kwargs)  # noqa: SLF001 - the twin's own method
        return _drive(iterator, twin._thread)  # noqa: SLF001 - the twin's own method

    return call


def _drive(iterator: AsyncIterator[Result], thread: LoopThread) -> Iterator[Result]:
    async def step() -> Any:  # noqa: ANN401 - an item, or the mark that there is none
        return await anext(iterator, _END)

    async def close() -> None:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()

    try:
        while (item := thread.wait(step())) is not _END:
            yield item
    finally:
        thread.wait(close())


class BlockingTenants(Twin[Tenants]):
    """Blocking twin of Tenants."""

    create = _waits(Tenants.create)
    get = _waits(Tenants.get)
    list_all = _iterates(Tenants.list_all)
    update = _waits(Tenants.update)
    create_key = _waits(Tenants.create_key)
    list_keys = _iterates(Tenants.list_keys)
    revoke_key = _waits(Tenants.revoke_key)


class BlockingDatasets(Twin[Datasets]):
    """Blocking twin of Datasets."""

    upload = _waits(Datasets.upload)
    upload_adapter = _waits(Datasets.upload_adapter)
    get = _waits(Datasets.get)
    list_all = _iterates(Datasets.list_all)


class BlockingBots(Twin[Bots]):
    """Blocking twin of Bots."""

    create = _waits(Bots.create)
    get = _waits(Bots.get)
    list_all = _iterates(Bots.list_all)
    set_answer_schema = _waits(Bots.set_answer_schema)
    get_version = _waits(Bots.get_version)
    import_adapter = _waits(Bots.import_adapter)
    list_versions = _iterates(Bots.list_versions)
    promote = _waits(Bots.promote)
    set_canary = _waits(Bots.set_canary)
    set_shadow = _waits(Bots.set_shadow)
    roll_back = _waits(Bots.roll_back)
    retire = _waits(Bots.retire)


class BlockingJobs(Twin[Jobs]):
    """Blocking twin of Jobs."""

    plan = _waits(Jobs.plan)
    create = _waits(Jobs.create)
    get = _waits(Jobs.get)
    list_all = _iterates(Jobs.list_all)
    watch = _iterates(Jobs.watch)
    cancel = _waits(Jobs.cancel)
    wait_until_ready = _waits(Jobs.wait_until_ready)


class BlockingUsageBook(Twin[UsageBook]):
    """Blocking twin of UsageBook."""

    list_all = _iterates(UsageBook.list_all)


class BlockingChat(Twin[Chat]):
    """Blocking twin of Chat."""

    ask = _waits(Chat.ask)
    stream = _iterates(Chat.stream)
    list_bots = _iterates(Chat.list_bots)
    count_tokens = _waits(Chat.count_tokens)
    wait_until_ready = _waits(Chat.wait_until_ready)
    wait_until_routed = _waits(Chat.wait_until_routed)


class BlockingCompletion(Twin[Completion]):
    """Blocking twin of Completion."""

    fill = _waits(Completion.fill)
    stream = _iterates(Completion.stream)


class BlockingServing(Twin[Serving]):
    """Blocking twin of Serving."""

    get_residency = _waits(Serving.get_residency)
    warm = _waits(Serving.warm)
    release = _waits(Serving.release)
    drain = _waits(Serving.drain)


class BlockingClient(AbstractContextManager["BlockingClient"]):
    """Blocking twin of AdaptoryClient; use it in a `with` block."""

    def __init__(
        self,
        key: str,
        *,
        trainer: str = DEFAULT_TRAINER,
        server: str = DEFAULT_SERVER,
        ca_file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Start the thread and open both channels. Addresses beyond loopback are called over TLS."""

        async def connect() -> AdaptoryClient:
            return AdaptoryClient(key, trainer=trainer, server=server, ca_file=ca_file, patience=patience)

        self._thread = LoopThread()
        self._client = self._thread.wait(connect())
        self.tenants = BlockingTenants(self._client.tenants, self._thread)
        self.datasets = BlockingDatasets(self._client.datasets, self._thread)
        self.bots = BlockingBots(self._client.bots, self._thread)
        self.jobs = BlockingJobs(self._client.jobs, self._thread)
        self.usage = BlockingUsageBook(self._client.usage, self._thread)
        self.chat = BlockingChat(self._client.chat, self._thread)
        self.completion = BlockingCompletion(self._client.completion, self._thread)
        self.serving = BlockingServing(self._client.serving, self._thread)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both channels and end the thread."""
        self._thread.wait(self._client.__aexit__(kind, error, trace))
        self._thread.stop()
