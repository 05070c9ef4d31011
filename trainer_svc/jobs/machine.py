"""What the machine has for workers: which device they will use, and how much of its memory is free.

Asked without torch, which only a worker imports: the kernel and NVIDIA's own command answer.
"""

import subprocess
from pathlib import Path

import psutil

from adaptory.core.errors import FailedPrecondition
from trainer_svc.memory.techniques import DeviceKind

_NVIDIA_DRIVER = Path("/dev/nvidiactl")
_MIB = 1024 * 1024
_QUERY = ("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0")
_QUERY_TIMEOUT_S = 10.0


def find_device() -> DeviceKind:
    """Return CUDA where NVIDIA's driver is loaded, else CPU."""
    return DeviceKind.CUDA if _NVIDIA_DRIVER.exists() else DeviceKind.CPU


def measure_free_bytes(device: DeviceKind) -> int:
    """Return the memory a job without a limit may take now: all that is free, on the first device where there are several.

    Raises FailedPrecondition when a device does not say: then a limit must be given.
    """
    if device is DeviceKind.CPU:
        return int(psutil.virtual_memory().available)
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, check=True, timeout=_QUERY_TIMEOUT_S)  # noqa: S603 - fixed
        return int(answer.stdout) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = "The device does not say how much memory is free; give the job a memory_limit_bytes."
        raise FailedPrecondition(message, reason="DEVICE_UNKNOWN") from error
