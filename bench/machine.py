"""What a measurement ran on, for its record."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil


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
        processor=_read_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def _read_processor() -> str:
    """Return the model's name as Linux tells it, or the architecture where it does not."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
