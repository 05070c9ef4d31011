"""The tensors of a base: where a loader reads them from, which is the files of a folder.

Owns the files; what is made of the tensors is `base`'s.
"""

import os
from pathlib import Path
from typing import Protocol

import torch

from adaptory.core.safetensors_header import TensorEntry, read_header
from trainer_svc.memory.techniques import ComputePrecision
from trainer_svc.worker.compute import recast_, require_range
from trainer_svc.worker.offload import read_exactly

_MAX_HEADER_BYTES = 100 << 20
_MAX_TENSORS = 1 << 20


class WeightSource(Protocol):
    """Tensors by their names in a base, in bf16 on one device."""

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor. Raises KeyError when it is missing, TypeError when it is not bf16."""

    def read_if_there(self, name: str) -> torch.Tensor | None:
        """Return a tensor, or None where this architecture has none of that name."""

    def read_stacked(self, names: list[str]) -> torch.Tensor:
        """Return tensors that differ in their first size alone, one below the other. Raises as `read`."""

    def read_into(self, names: list[str], out: torch.Tensor) -> torch.Tensor:
        """Read tensors into `out`, one below the other, and return it. Raises as `read`."""

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the sizes of a tensor. Raises as `read`."""

    def stacked_shape(self, names: list[str]) -> tuple[int, ...]:
        """Return the sizes of tensors stacked one below the other. Raises as `read`."""


class WeightFiles:
    """The safetensors files of a folder, read straight into tensors: no mapping, no intermediate copy on the CPU.

    They stay open as long as somebody may read them.
    """

    def __init__(self, folder: Path, device: torch.device, compute: ComputePrecision = ComputePrecision.BF16) -> None:
        """Read the headers of all files of the folder, whose values are to be in the range of `compute`.

        Raises FileNotFoundError when there is none.
        """
        self._device = device
        self._is_ranged = compute is ComputePrecision.FP16
        self._descriptors: list[int] = []
        self._entries: dict[str, tuple[int, TensorEntry]] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            message = f"no safetensors file in {folder}"
            raise FileNotFoundError(message)
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            self._descriptors.append(descriptor)
            header = read_header(descriptor, max_header_bytes=_MAX_HEADER_BYTES, max_tensors=_MAX_TENSORS)
            self._entries |= {name: (descriptor, entry) for name, entry in header.items()}

    def __del__(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor lies. Raises KeyError when it is missing, TypeError when it is not bf16."""
        if name not in self._entries:
            message = f"the base has no tensor {name}"
            raise KeyError(message)
        entry = self._entries[name][1]
        if entry.dtype != "BF16":
            message = f"{name} is {entry.dtype}; a prepared base is BF16 throughout"
            raise TypeError(message)
        return entry

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the sizes of a tensor. Raises as `entry`."""
        return self.entry(name).shape

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor. Raises as `entry`."""
        return self.read_stacked([name])

    def read_if_there(self, name: str) -> torch.Tensor | None:
        """Return a tensor, or None where this architecture has none of that name."""
        return self.read(name) if name in self._entries else None

    def read_stacked(self, names: list[str]) -> torch.Tensor:
        """Return tensors that differ in their first size alone, one below the other. Raises as `entry`."""
        stacked = torch.empty(self.stacked_shape(names), dtype=torch.bfloat16, device=self._device)
        return self.read_into(names, stacked)

    def stacked_shape(self, names: list[str]) -> tuple[int, ...]:
        """Return the shape of tensors stacked one below the other. Raises as `entry`."""
        shapes = [self.entry(name).shape for name in names]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def read_into(self, names: list[str], out: torch.Tensor) -> torch.Tensor:
        """Read tensors into `out`, one below the other, and return it.

        Raises as `entry`, and FailedPrecondition for a value that is not in the range of what is computed in.
        """
        host = out if out.device.type == "cpu" else torch.empty_like(out, device="cpu")
        target = host.view(-1).view(torch.uint8).numpy().data
        for name in names:
            entry = self.entry(name)
            size = entry.end - entry.begin
            read_exactly(self._entries[name][0], target[:size], entry.begin)
            target = target[size:]
        if self._is_ranged:
            parts = host.split_with_sizes([self.entry(name).shape[0] for name in names])
            for name, part in zip(names, parts, strict=True):
                require_range(name, part)
        return out if host is out else out.copy_(host)


class ComputedSource:
    """A source whose tensors are read in what is computed in; `stored` has them as they are, in bf16."""

    def __init__(self, stored: WeightSource, dtype: torch.dtype) -> None:
        """Read from a source; values change where they lie, so it takes no more memory."""
        self.stored = stored
        self._dtype = dtype

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor. Raises as the source."""
        return recast_(self.stored.read(name), self._dtype)

    def read_if_there(self, name: str) -> torch.Tensor | None:
        """Return a tensor, or None where this architecture has none of that name."""
        values = self.stored.read_if_there(name)
        return None if values is None else recast_(values, self._dtype)

    def read_stacked(self, names: list[str]) -> torch.Tensor:
        """Return tensors that differ in their first size alone, one below the other. Raises as the source."""
        return recast_(self.stored.read_stacked(names), self._dtype)

    def read_into(self, names: list[str], out: torch.Tensor) -> torch.Tensor:
        """Read tensors into `out`, one below the other, and return it. Raises as the source."""
        return recast_(self.stored.read_into(names, out.view(torch.bfloat16)), self._dtype)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the sizes of a tensor. Raises as the source."""
        return self.stored.shape_of(name)

    def stacked_shape(self, names: list[str]) -> tuple[int, ...]:
        """Return the sizes of tensors stacked one below the other. Raises as the source."""
        return self.stored.stacked_shape(names)
