"""Measures the device once, in a few seconds: `python -m trainer_svc.worker.speed FILE` keeps the numbers plans are timed with.

What the numbers mean is told by `memory.speed`; each is the median of several runs of the worker's own operations.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from trainer_svc.memory.speed import DeviceSpeed, SpeedFile
from trainer_svc.memory.techniques import DeviceKind, Home, away_from
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.device import describe_device, open_device, read_compute, settle_process
from trainer_svc.worker.offload import open_store
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.weights import Nf4Weight

# Nodes of a middling micro-batch, and a weight of a model of half a billion to a few billion parameters.
_NODES, _HIDDEN, _INNER = 512, 1024, 4096
_TOUCHED_ELEMENTS = 16 << 20
_NUM_OPERATIONS = 500
_NUM_RUNS = 5
_MULTIPLY_ADD, _TOUCHES = 2, 3


def measure_speed(device: torch.device, folder: Path) -> DeviceSpeed:
    """Return how fast the device is; `folder` is where offloaded files would lie."""
    kind = DeviceKind(device.type)
    return DeviceSpeed(
        device=describe_device(device),
        product_flops=_MULTIPLY_ADD * _NODES * _HIDDEN * _INNER / _time_product(device),
        touched_bytes=_TOUCHES * 2 * _TOUCHED_ELEMENTS / _time_touching(device),
        dequantised_values=_INNER * _HIDDEN / _time_dequantising(device),
        moved_bytes=2 * _INNER * _HIDDEN * 2 / _time_moving(device, away_from(kind), folder),
        operation_s=_time_operations(device) / _NUM_OPERATIONS,
    )


def _time_product(device: torch.device) -> float:
    left, right = _fill(device, _NODES, _HIDDEN), _fill(device, _INNER, _HIDDEN)
    out = _fill(device, _NODES, _INNER)
    return _time(device, lambda: torch.mm(left, right.T, out=out))


def _time_touching(device: torch.device) -> float:
    one, other = _fill(device, _TOUCHED_ELEMENTS), _fill(device, _TOUCHED_ELEMENTS)
    return _time(device, lambda: one.mul_(other))


def _time_dequantising(device: torch.device) -> float:
    weight = Nf4Weight(iter([_fill(device, _INNER, _HIDDEN).to(torch.bfloat16)]))
    scratch = Scratch(2 * _INNER * _HIDDEN, device, dtype_of(read_compute(device)))

    def dequantise() -> None:
        with scratch.frame():
            weight.dense(scratch)

    return _time(device, dequantise)


def _time_moving(device: torch.device, home: Home, folder: Path) -> float:
    """Return the seconds in which a matrix leaves the device and comes back."""
    matrix = _fill(device, _INNER, _HIDDEN)
    store = open_store(home, folder, matrix.nbytes)

    def move() -> None:
        if store is not None:
            store.put(0, matrix)
            store.get(0, matrix)

    return _time(device, move)


def _time_operations(device: torch.device) -> float:
    tiny = _fill(device, 32, 32)

    def operate() -> None:
        for _ in range(_NUM_OPERATIONS):
            tiny.mul_(1.0)

    return _time(device, operate)


def _fill(device: torch.device, *size: int) -> torch.Tensor:
    return torch.full(size, 0.5, dtype=dtype_of(read_compute(device)), device=device)


def _time(device: torch.device, work: Callable[[], object]) -> float:
    """Return the median seconds of several runs, after one that does not count."""
    seconds = []
    for _ in range(_NUM_RUNS + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return median(seconds[1:])


def main(path: Path) -> None:
    """Measure and keep."""
    settle_process()
    device, _ = open_device()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        SpeedFile(path).write(DeviceKind(device.type), measure_speed(device, Path(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
