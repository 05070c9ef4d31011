"""What the machine has for workers: which device they will use, how much memory it has and how much is free, how fast it is.

Asked without torch, which only a worker imports: the kernel and NVIDIA's own command answer, and a file a worker's measurement left.
"""

import subprocess
from pathlib import Path
from typing import Protocol

import psutil

from adaptory.core.errors import FailedPrecondition, InvalidRequest
from trainer_svc.jobs.cgroup import read_group_memory
from trainer_svc.memory.speed import DeviceSpeed, SpeedFile
from trainer_svc.memory.techniques import ComputePrecision, DeviceKind, choose_compute

SPEED_FILE = "device-speed.json"
_NVIDIA_DRIVER = Path("/dev/nvidiactl")
_MIB = 1024 * 1024
_QUERY = ("nvidia-smi", "--format=csv,noheader,nounits", "--id=0")
_QUERY_TIMEOUT_S = 10.0


class Machine(Protocol):
    """Where workers run."""

    @property
    def device(self) -> DeviceKind:
        """What workers compute on."""

    def measure_free_bytes(self) -> int:
        """Return the memory of the device that a job without a limit may take now: all that is free.

        Raises FailedPrecondition when a device does not say: then a limit must be given.
        """

    def measure_total_bytes(self) -> int:
        """Return the memory the device has. Raises as `measure_free_bytes`."""

    def read_compute(self) -> ComputePrecision:
        """Return what workers compute in. Raises FailedPrecondition when a device does not say what it can."""

    def read_speed(self) -> DeviceSpeed | None:
        """Return how fast the device is, None where nobody measured it."""


class LocalMachine:
    """The machine this process runs on; where it has several CUDA devices, the first."""

    def __init__(self, cache_root: Path) -> None:
        """Look for a device; speeds are kept below `cache_root`."""
        self.device = DeviceKind.CUDA if _NVIDIA_DRIVER.exists() else DeviceKind.CPU
        self.speed_file = cache_root / SPEED_FILE

    def measure_free_bytes(self) -> int:
        """Return what is free now, in a container what its limit leaves. Raises FailedPrecondition when CUDA does not say."""
        if self.device is DeviceKind.CUDA:
            return _query("memory.free")
        available, group = int(psutil.virtual_memory().available), read_group_memory()
        return available if group is None else min(available, group.free_bytes)

    def measure_total_bytes(self) -> int:
        """Return what there is, in a container its limit. Raises FailedPrecondition when CUDA does not say."""
        if self.device is DeviceKind.CUDA:
            return _query("memory.total")
        total, group = int(psutil.virtual_memory().total), read_group_memory()
        return total if group is None else min(total, group.limit_bytes)

    def read_compute(self) -> ComputePrecision:
        """Return fp16 for a CUDA device below compute capability 8.0, else bf16. Raises FailedPrecondition when CUDA does not say."""
        if self.device is not DeviceKind.CUDA:
            return choose_compute(self.device, None)
        return choose_compute(self.device, _query_capability())

    def read_speed(self) -> DeviceSpeed | None:
        """Return what was measured here, None where nothing was."""
        return SpeedFile(self.speed_file).read(self.device)


def require_possible_limit(limit_bytes: int, machine: Machine, *, field: str) -> None:
    """Raise InvalidRequest when a limit is more than the machine has: it would be kept by nothing; 0 is no limit."""
    total_bytes = machine.measure_total_bytes() if limit_bytes else 0
    if limit_bytes > total_bytes:
        raise InvalidRequest.of_field(
            field,
            f"is {limit_bytes:,} bytes, but the {machine.device} here has {total_bytes:,}; give at most that",
            limit_bytes=limit_bytes,
            total_bytes=total_bytes,
        )


def _query_capability() -> tuple[int, int]:
    """Return the major and minor compute capability, which NVIDIA's command writes as `7.5`."""
    try:
        major, minor = _ask("compute_cap").split(".")
        return int(major), int(minor)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = (
            "The device does not say its compute capability, which decides between bf16 and fp16: see that "
            "`nvidia-smi --query-gpu=compute_cap --format=csv` answers; drivers of before 2022 do not."
        )
        raise FailedPrecondition(message, reason="DEVICE_UNKNOWN") from error


def _ask(what: str) -> str:
    command = (*_QUERY, f"--query-gpu={what}")
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_QUERY_TIMEOUT_S)  # noqa: S603 - fixed
    return answer.stdout


def _query(what: str) -> int:
    try:
        return int(_ask(what)) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = "The device does not say how much memory it has; give the job a memory_limit_bytes."
        raise FailedPrecondition(message, reason="DEVICE_UNKNOWN") from error
