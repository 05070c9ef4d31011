"""One worker as a child process: begun in its own session, with few variables, and never left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from trainer_svc.jobs.workspace import Workspace


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How a worker is begun: the command, to which its folder is appended, and all the variables it will see."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    stop_grace_s: float


class WorkerProcess:
    """A worker that was begun."""

    def __init__(self, process: asyncio.subprocess.Process, stop_grace_s: float) -> None:
        self._process = process
        self._stop_grace_s = stop_grace_s

    async def wait(self, timeout_s: float) -> bool:
        """Wait at most so long and tell whether the worker has ended."""
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    @property
    def exit_code(self) -> int:
        """How the worker ended; minus the signal that ended it. Must have ended."""
        assert self._process.returncode is not None, "the worker still runs"  # noqa: S101 - our own order of calls
        return self._process.returncode

    async def stop(self) -> None:
        """Ask the worker to end, and kill it with all it began when it does not. Does nothing once it has ended."""
        if self._process.returncode is None:
            self._process.terminate()
            if not await self.wait(self._stop_grace_s):
                await self.kill()

    async def kill(self) -> None:
        """End the worker and all it began at once. Does nothing once it has ended."""
        if self._process.returncode is None:
            # Its own session, so its group is it and its children and nobody else.
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def run_worker(command: WorkerCommand, workspace: Workspace) -> AsyncGenerator[WorkerProcess, None]:
    """Begin a worker; when the block is left it is stopped if it still runs. Raises OSError when it cannot be begun."""
    with workspace.log_file.open("ab") as log_file:
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            str(workspace.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            env=dict(command.environment),
            start_new_session=True,
        )
    worker = WorkerProcess(process, command.stop_grace_s)
    try:
        yield worker
    finally:
        await worker.stop()
