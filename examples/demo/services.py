"""Starts trainer_svc and serve_svc as an operator would, each a process of its own, on free ports and with state of their own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from adaptory.client import AdaptoryClient

Result = TypeVar("Result")

_START_S = 60.0
# On a machine with much other work; half a minute is usual.
_ENGINE_START_S = 600.0
_STOP_S = 40.0
_POLL_S = 0.1
_LOG_LINES = 20


class ServiceEnded(Exception):
    """A service ended by itself, or did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Services:
    """Where both services are, HOST:PORT each, and the operator's key."""

    trainer: str
    trainer_metrics: str
    server: str
    server_metrics: str
    admin_key: str

    def open_client(self, key: str) -> AdaptoryClient:
        """Return a client of both."""
        return AdaptoryClient(key, trainer=self.trainer, server=self.server)


@asynccontextmanager
async def run_services(folder: Path, serve_settings: Mapping[str, str] | None = None) -> AsyncIterator[Services]:
    """Run both below `folder` while the block runs, ready to be asked; their logs are there too.

    `serve_settings` are the server's beside those that connect the two. Raises ServiceEnded when one does not come up.
    """
    trainer_state, serve_state = folder / "trainer", folder / "serve"
    trainer_settings = {"STATE_DIR": str(trainer_state), "ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0"}
    async with run_service("trainer_svc", "ADAPTORY_TRAINER_", trainer_settings, folder) as trainer:
        registry = await trainer.read_endpoint(trainer_state)
        connected = {
            "STATE_DIR": str(serve_state),
            "ADDRESS": "127.0.0.1:0",
            "METRICS_ADDRESS": "127.0.0.1:0",
            "OPENAI_ADDRESS": "127.0.0.1:0",
            "REGISTRY_ADDRESS": registry["grpc"],
            "SERVER_KEY_FILE": str(trainer_state / "server.key"),
        }
        settings = {**connected, **(serve_settings or {})}
        async with run_service("serve_svc", "ADAPTORY_SERVE_", settings, folder) as server:
            serving = await server.read_endpoint(serve_state)
            services = Services(
                trainer=registry["grpc"],
                trainer_metrics=registry["metrics"],
                server=serving["grpc"],
                server_metrics=serving["metrics"],
                admin_key=(trainer_state / "admin.key").read_text().strip(),
            )
            async with services.open_client(services.admin_key) as client:
                await trainer.outlive(client.jobs.wait_until_ready(deadline_s=_START_S))
                await server.outlive(client.chat.wait_until_ready(deadline_s=_ENGINE_START_S))
            yield services


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A service that was started, and where its log goes."""

    module: str
    process: asyncio.subprocess.Process
    log_file: Path

    async def read_endpoint(self, state_dir: Path) -> Mapping[str, str]:
        """Return the addresses the service wrote down when it listened. Raises ServiceEnded when it does not in time."""
        file = state_dir / "endpoint.json"
        try:
            async with asyncio.timeout(_ENGINE_START_S):
                await self.outlive(_wait_for_file(file))
        except TimeoutError as error:
            raise ServiceEnded(self._describe(f"is not up after {_ENGINE_START_S:.0f} s")) from error
        return _read_json(file)

    async def outlive(self, work: Awaitable[Result]) -> Result:
        """Return what `work` returns. Raises ServiceEnded when the process ends before."""
        task, ended = asyncio.ensure_future(work), asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ServiceEnded(self._describe(f"ended with {ended.result()}"))
            return task.result()
        finally:
            task.cancel()
            ended.cancel()

    def _describe(self, state: str) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"{self.module} {state}. The end of {self.log_file}:", *lines])


@asynccontextmanager
async def run_service(
    module: str, prefix: str, settings: Mapping[str, str], folder: Path
) -> AsyncIterator[ServiceProcess]:
    """Run one service while the block runs, on these settings alone; their names stand without the prefix of its variables."""
    # What is set for the user's own services is not meant for these.
    own = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
    environment = own | {prefix + name: value for name, value in settings.items()}
    log_file = folder / f"{module}.log"
    with _open_log(log_file) as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield ServiceProcess(module, process, log_file)
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    finally:
        # The group: a service that did not stop by itself may have left a worker or an engine.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _wait_for_file(file: Path) -> None:
    while not _exists(file):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(_POLL_S)


def _exists(file: Path) -> bool:
    return file.exists()


def _read_json(file: Path) -> Mapping[str, str]:
    endpoint: Mapping[str, str] = json.loads(file.read_text())
    return endpoint


def _open_log(file: Path) -> BinaryIO:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("wb")
