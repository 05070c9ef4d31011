"""What a measurement ran on, for its record."""

import os
import platform
from dataclasses import dataclass

import psutil

from trainer_svc.memory.speed import read_processor


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine; `cores` are those this process may use."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str

    def __str__(self) -> str:
        """Return it in a few words."""
        return f"{self.cores} cores of {self.processor}"


def describe_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        processor=read_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )
