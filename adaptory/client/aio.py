"""The asyncio client: both services behind one object, a group of methods for each kind of thing."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from adaptory.client.bots import Bots
from adaptory.client.chat import Chat
from adaptory.client.completion import Completion
from adaptory.client.connection import Connection, Endpoint
from adaptory.client.datasets import Datasets
from adaptory.client.jobs import Jobs
from adaptory.client.patience import Patience
from adaptory.client.serving import Serving
from adaptory.client.tenants import Tenants
from adaptory.client.usage import UsageBook

DEFAULT_TRAINER = "127.0.0.1:50071"
DEFAULT_SERVER = "127.0.0.1:50072"


class AdaptoryClient(AbstractAsyncContextManager["AdaptoryClient"]):
    """Calls trainer_svc and serve_svc with one key. Each is connected at the first call to it, so either may be absent.

    Methods return messages of the contract (`adaptory.{registry,trainer,serve}.v1`) and raise RpcFailed.
    """

    def __init__(
        self,
        key: str,
        *,
        trainer: str = DEFAULT_TRAINER,
        server: str = DEFAULT_SERVER,
        ca_file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Open both channels, HOST:PORT each; make it inside a running event loop. Addresses beyond loopback are called over TLS."""
        patience = patience or Patience()
        self._trainer = Connection(Endpoint(trainer, key, ca_file))
        self._server = Connection(Endpoint(server, key, ca_file))
        self.tenants = Tenants(self._trainer)
        self.datasets = Datasets(self._trainer, patience)
        self.bots = Bots(self._trainer)
        self.jobs = Jobs(self._trainer, patience)
        self.usage = UsageBook(self._trainer)
        self.chat = Chat(self._server)
        self.completion = Completion(self._server)
        self.serving = Serving(self._server)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both channels."""
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._trainer)
            stack.push_async_exit(self._server)
