"""Memory for what lives within one layer, taken once: a stack from which tensors are cut and to which they return.

So a step allocates nothing of size: what a job takes is what was planned (`trainer_svc.memory.layout` has the sum), nothing
fragments, and no page is faulted in twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch

_ALIGNMENT_BYTES = 64


class Scratch:
    """A stack of bytes on one device. Tensors of a frame must not be used after it."""

    def __init__(self, size_bytes: int, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
        """Take the memory; `dtype` is what tensors are cut as unless told otherwise."""
        self._dtype = dtype
        self._memory = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        self._used_bytes = 0
        self.peak_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What was taken at the start."""
        return self._memory.numel()

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Give back what is taken in the block when it ends."""
        mark = self._used_bytes
        try:
            yield
        finally:
            self._used_bytes = mark

    def take(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a tensor with undefined values; beyond the stack's end it is allocated: a wrong sum costs memory, not the job."""
        dtype = dtype or self._dtype
        begin = self._used_bytes
        end = begin + prod(shape) * dtype.itemsize
        self._used_bytes = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.peak_bytes = max(self.peak_bytes, self._used_bytes)
        if end > self._memory.numel():
            return torch.empty(shape, dtype=dtype, device=self._memory.device)
        return self._memory[begin:end].view(dtype).view(shape)
