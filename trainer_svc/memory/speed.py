"""How fast a device is, in the few numbers a job's time depends on: measured once by the worker, kept in a file.

Owns the numbers and the file; what a job's time is made of is `duration`'s, measuring `worker.speed`'s.
"""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from trainer_svc.memory.techniques import DeviceKind


@dataclass(frozen=True, slots=True)
class DeviceSpeed:
    """What a device does in a second.

    `product_flops`: operations of bf16 matrix products, two for each multiply-add. `touched_bytes`: bytes of memory read or written
    by element-wise work. `dequantised_values`: values turned from NF4 to bf16. `moved_bytes`: bytes to or from where offloaded
    things lie. `operation_s`: seconds any operation takes, however small.
    """

    device: str
    product_flops: float
    touched_bytes: float
    dequantised_values: float
    moved_bytes: float
    operation_s: float
    is_measured: bool = True


_SPEEDS = TypeAdapter(dict[str, DeviceSpeed])


def assume_speed(device: DeviceKind) -> DeviceSpeed:
    """Return round numbers for a device nobody measured: two server cores, or an NVIDIA card of the 24 GB class.

    They order plans well enough; seconds made of them are no promise, which `is_measured` says.
    """
    if device is DeviceKind.CUDA:
        return DeviceSpeed("an assumed card of the 24 GB class", 6e13, 4e11, 1e11, 1e10, 1e-5, is_measured=False)
    return DeviceSpeed("an assumed CPU of two cores", 4e11, 1e10, 4e8, 1e9, 1e-5, is_measured=False)


def name_machine(device: DeviceKind) -> str:
    """Return what tells this machine from another: a number measured on one must not be used on the other."""
    return f"{device}, {read_processor()}, {len(os.sched_getaffinity(0))} cores"


class SpeedFile:
    """Measured speeds by machine, in one JSON file, so that machines may share a cache folder."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not be there."""
        self._path = path

    def read(self, device: DeviceKind) -> DeviceSpeed | None:
        """Return what was measured on this machine, None where nothing was or the file is not one of ours."""
        return self._read_all().get(name_machine(device))

    def write(self, device: DeviceKind, speed: DeviceSpeed) -> None:
        """Keep what was measured on this machine."""
        known = {name: asdict(known) for name, known in (self._read_all() | {name_machine(device): speed}).items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".part")
        aside.write_bytes(_SPEEDS.dump_json(_SPEEDS.validate_python(known), indent=2))
        aside.rename(self._path)

    def _read_all(self) -> dict[str, DeviceSpeed]:
        try:
            return _SPEEDS.validate_json(self._path.read_bytes())
        except (OSError, ValueError):
            return {}


def read_processor() -> str:
    """Return the processor's name as Linux tells it, or the architecture where it does not."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
