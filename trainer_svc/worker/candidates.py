"""The adapters of a job that may become its version, each in a file: the job's memory holds one adapter, the one it trains.

A file appears whole (written aside, synced, renamed) and goes with the block it is used in, however that is left; after SIGKILL it
goes with the workspace. Writes go through the kernel's page cache, which no limit of the job counts.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.offload import read_exactly, view_bytes

# As many as the recipe for an FAQ has epochs at least. Of rank 16 an adapter of a 7B base has 160 MB here.
MAX_KEPT = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter after a step, counted from 1, with its loss on held-out rows, in nats; `file` has its fp32 masters, bit for bit."""

    step: int
    loss: float
    file: Path

    def restore(self, adapter: Adapter) -> None:
        """Give the adapter the values that were kept. Raises FileNotFoundError when none were, EOFError when some are missing."""
        masters = adapter.masters
        target = masters if masters.device.type == "cpu" else torch.empty_like(masters, device="cpu")
        with self.file.open("rb") as file:
            read_exactly(file.fileno(), view_bytes(target), 0)
        if target is not masters:
            masters.copy_(target)
        adapter.refresh_copies()


class Candidates:
    """Keeps adapters in a folder of its own, each better on held-out rows than those before it, and at most `MAX_KEPT`."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when the block is entered."""
        self._folder = folder
        self._kept: list[Candidate] = []

    def __enter__(self) -> Self:
        """Begin without any."""
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def best_first(self) -> list[Candidate]:
        """What is kept, by its loss on held-out rows."""
        return self._kept[::-1]

    def add(self, step: int, loss: float, adapter: Adapter) -> None:
        """Keep the adapter as it is now, whose loss is the lowest so far. Raises OSError when the disk is full."""
        # Room first, so that the disk never holds more.
        if len(self._kept) == MAX_KEPT:
            self._thin_out()
        candidate = Candidate(step, loss, self._folder / f"step-{step}")
        aside = candidate.file.with_name(candidate.file.name + ".part")
        with aside.open("wb", buffering=0) as file:
            data = view_bytes(adapter.masters.cpu())
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        aside.rename(candidate.file)
        self._kept.append(candidate)

    def _thin_out(self) -> None:
        """Drop one, so that those left lie evenly over the steps; never the best."""
        steps = [0, *(candidate.step for candidate in self._kept)]
        gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
        self._kept.pop(gaps.index(min(gaps))).file.unlink()
