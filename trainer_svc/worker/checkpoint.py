"""The best adapter of a job so far, in a file: the job's memory holds one adapter, the one it trains.

The file appears whole (written aside, synced, renamed) and goes with the block it is used in, however that is left; after SIGKILL it
goes with the workspace. Writes go through the kernel's page cache, which no limit of the job counts.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.offload import read_exactly, view_bytes


class Checkpoint:
    """Keeps an adapter's fp32 masters, bit for bit; each write replaces the one before."""

    def __init__(self, file: Path) -> None:
        """Name the file; nothing is written yet."""
        self._file = file
        self._aside = file.with_name(file.name + ".part")

    def __enter__(self) -> Self:
        """Begin without one."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind."""
        self._aside.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)

    def write(self, adapter: Adapter) -> None:
        """Keep the adapter as it is now. Raises OSError when the disk is full."""
        with self._aside.open("wb", buffering=0) as file:
            data = view_bytes(adapter.masters.cpu())
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        self._aside.rename(self._file)

    def restore(self, adapter: Adapter) -> None:
        """Give the adapter the values that were kept. Raises FileNotFoundError when none were, EOFError when some are missing."""
        masters = adapter.masters
        target = masters if masters.device.type == "cpu" else torch.empty_like(masters, device="cpu")
        with self._file.open("rb") as file:
            read_exactly(file.fileno(), view_bytes(target), 0)
        if target is not masters:
            masters.copy_(target)
        adapter.refresh_copies()
