"""Stores for what leaves the device while it is not computed with: the host's memory beside a CUDA device, or a file.

Owns where offloaded bytes lie; which, and when they move, is for `tape`, `weights` and `moments`. A file has no name: nothing of it
stays behind, however the worker ends. Reads and writes go through the kernel's page cache, which no limit of the job counts and which
the kernel takes back when memory is short.
"""

import os
import tempfile
from pathlib import Path
from typing import Protocol

import torch

from trainer_svc.memory.techniques import Home


class OffloadStore(Protocol):
    """Tensors by place, of any size up to one that is fixed."""

    def put(self, place: int, tensor: torch.Tensor) -> None:
        """Keep the values of a contiguous tensor."""

    def get(self, place: int, out: torch.Tensor) -> torch.Tensor:
        """Copy what was put at a place into a contiguous tensor of its size, and return that."""


class HostStore:
    """Keeps tensors in page-locked host memory."""

    def __init__(self, place_bytes: int) -> None:
        """Begin empty; `place_bytes` is the size of the largest tensor, and what each place takes once it is used."""
        self._place_bytes = place_bytes
        self._places: dict[int, torch.Tensor] = {}

    def put(self, place: int, tensor: torch.Tensor) -> None:
        """Keep the values."""
        if place not in self._places:
            self._places[place] = torch.empty(self._place_bytes, dtype=torch.uint8, pin_memory=tensor.is_cuda)
        data = tensor.view(-1).view(torch.uint8)
        self._places[place][: data.numel()].copy_(data)

    def get(self, place: int, out: torch.Tensor) -> torch.Tensor:
        """Copy what was put at a place. Raises KeyError when nothing was."""
        data = out.view(-1).view(torch.uint8)
        data.copy_(self._places[place][: data.numel()])
        return out


class DiskStore:
    """Keeps tensors in one file in `folder`, each at its place times the largest tensor's size."""

    def __init__(self, folder: Path, place_bytes: int) -> None:
        """Make the file; `place_bytes` is the size of the largest tensor."""
        self._place_bytes = place_bytes
        with tempfile.TemporaryFile(dir=folder) as file:
            self._descriptor = os.dup(file.fileno())

    def put(self, place: int, tensor: torch.Tensor) -> None:
        """Write the values. Raises OSError when the disk is full."""
        data, offset = view_bytes(tensor.cpu()), place * self._place_bytes
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def get(self, place: int, out: torch.Tensor) -> torch.Tensor:
        """Read what was put at a place. Raises EOFError when nothing was."""
        target = out if out.device.type == "cpu" else torch.empty_like(out, device="cpu")
        read_exactly(self._descriptor, view_bytes(target), place * self._place_bytes)
        return out if target is out else out.copy_(target)

    def __del__(self) -> None:
        """Let the file go."""
        os.close(self._descriptor)


def open_store(home: Home, folder: Path, place_bytes: int) -> OffloadStore | None:
    """Return a store of that home, None for the device itself."""
    match home:
        case Home.DEVICE:
            return None
        case Home.HOST:
            return HostStore(place_bytes)
        case Home.DISK:
            return DiskStore(folder, place_bytes)


def read_exactly(descriptor: int, target: memoryview, offset: int) -> None:
    """Fill `target` from a file. Raises EOFError when the file is too short."""
    while target:
        num_read = os.preadv(descriptor, [target], offset)
        if num_read == 0:
            message = "a file ends before the tensor that was to be read"
            raise EOFError(message)
        target, offset = target[num_read:], offset + num_read


def view_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, which they share."""
    return tensor.view(-1).view(torch.uint8).numpy().data
