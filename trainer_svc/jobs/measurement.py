"""Has the device's speed measured once per machine, by a child with the worker's libraries: plans then tell their seconds."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping, Sequence

import structlog

from trainer_svc.jobs.machine import LocalMachine

log = structlog.get_logger()


async def measure_speed_once(machine: LocalMachine, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the command with the speed file's path, unless this machine's speed is in it; an empty command measures nothing.

    A failure is logged and costs nothing but the seconds a plan would have told.
    """
    if not command or machine.read_speed() is not None:
        return
    child = await asyncio.create_subprocess_exec(
        *command, str(machine.speed_file), env=dict(environment), stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        exit_code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
    log.info("speed_measured", exit_code=exit_code, speed=machine.read_speed())
