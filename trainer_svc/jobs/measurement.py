"""Has the device's speed measured once per machine, by a child with the worker's libraries: plans then tell their seconds."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping, Sequence

import structlog

from trainer_svc.jobs.machine import LocalMachine

# Jobs wait for it.
_TIMEOUT_S = 120.0

log = structlog.get_logger()


async def measure_speed_once(machine: LocalMachine, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the command with the speed file's path, unless this machine's speed is in it; an empty command measures nothing.

    A failure is logged and costs nothing but the seconds a plan would have told.
    """
    if not command or machine.read_speed() is not None:
        return
    try:
        exit_code = await _run((*command, str(machine.speed_file)), environment)
    except (OSError, TimeoutError) as error:
        log.warning("speed_not_measured", error=repr(error))
        return
    log.info("speed_measured", exit_code=exit_code, speed=machine.read_speed())


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit code; it ends with the wait for it, however that ends. Raises OSError, TimeoutError."""
    child = await asyncio.create_subprocess_exec(*command, env=dict(environment), stdout=DEVNULL, stderr=DEVNULL)
    try:
        return await asyncio.wait_for(child.wait(), _TIMEOUT_S)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
