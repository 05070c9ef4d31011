"""Adam's two moments of an adapter: in fp32 or in 8 bits, on the device or paged through it piece by piece.

Owns the update rule and where the moments lie; schedule, clipping and the adapter's copies are `optimizer`'s. What an update
allocates for a moment it allocates before its first write, and each piece as much: a limit that is hit leaves weights and moments
as they were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import bitsandbytes.functional as quantiser
import torch

from trainer_svc.memory.layout import INT8_BLOCK, MOMENT_PIECE
from trainer_svc.memory.techniques import MomentPrecision
from trainer_svc.worker.offload import OffloadStore

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Update:
    """What one step does besides its gradients; `step` counts from 1."""

    step: int
    learning_rate: float
    weight_decay: float


class Moments(Protocol):
    """The moments of one flat fp32 tensor of weights."""

    def update(self, weights: torch.Tensor, gradients: torch.Tensor, update: Update) -> None:
        """Change weights and moments by one step of AdamW (Loshchilov and Hutter 2019)."""

    def offload(self, open_store: Callable[[int], OffloadStore | None]) -> None:
        """Move the moments off the device, where they were on it; their values stay."""


class PagedTensors:
    """Flat tensors of one size, cut into pieces: resident, or one piece at a time on the device."""

    def __init__(
        self,
        dtypes: tuple[torch.dtype, ...],
        *,
        size: int,
        piece: int,
        device: torch.device,
        open_store: Callable[[int], OffloadStore | None],
    ) -> None:
        """Take zeros. `open_store` makes a store for places of so many bytes, or None for the device itself."""
        self._size, self._piece = size, piece
        self._stores = [open_store(piece * dtype.itemsize) for dtype in dtypes]
        self._tensors = [
            torch.zeros(size if store is None else min(piece, size), dtype=dtype, device=device)
            for dtype, store in zip(dtypes, self._stores, strict=True)
        ]
        for place, _ in enumerate(range(0, size, piece)):
            self._write(place, self._cut(place))

    def pieces(self) -> Iterator[tuple[slice, list[torch.Tensor]]]:
        """Yield each piece's place among all values, and the tensors there; what is written to them is kept."""
        for place, begin in enumerate(range(0, self._size, self._piece)):
            tensors = self._cut(place)
            for store, tensor in zip(self._stores, tensors, strict=True):
                if store is not None:
                    store.get(place, tensor)
            yield slice(begin, begin + len(tensors[0])), tensors
            self._write(place, tensors)

    def offload(self, open_store: Callable[[int], OffloadStore | None]) -> None:
        """Move all values to stores; one piece's memory stays."""
        stores = [open_store(self._piece * tensor.itemsize) for tensor in self._tensors]
        for place, _ in enumerate(range(0, self._size, self._piece)):
            for store, tensor in zip(stores, self._cut(place), strict=True):
                if store is not None:
                    store.put(place, tensor)
        self._stores = stores
        self._tensors = [tensor[: self._piece].clone() for tensor in self._tensors]

    def _cut(self, place: int) -> list[torch.Tensor]:
        begin = place * self._piece
        length = min(self._piece, self._size - begin)
        return [
            tensor[begin : begin + length] if store is None else tensor[:length]
            for tensor, store in zip(self._tensors, self._stores, strict=True)
        ]

    def _write(self, place: int, tensors: list[torch.Tensor]) -> None:
        for store, tensor in zip(self._stores, tensors, strict=True):
            if store is not None:
                store.put(place, tensor)


class Fp32Moments:
    """Both moments in fp32, updated by PyTorch's fused kernel."""

    def __init__(self, pages: PagedTensors) -> None:
        """Take pages of two fp32 tensors."""
        self._pages = pages

    def offload(self, open_store: Callable[[int], OffloadStore | None]) -> None:
        """Move the moments off the device."""
        self._pages.offload(open_store)

    def update(self, weights: torch.Tensor, gradients: torch.Tensor, update: Update) -> None:
        """Change weights and moments by one step of AdamW."""
        # The kernel reads a step that was counted already.
        step = torch.tensor(float(update.step), device=weights.device)
        for place, (first, second) in self._pages.pieces():
            torch._fused_adamw_(
                [weights[place]],
                [gradients[place]],
                [first],
                [second],
                [],
                [step],
                lr=update.learning_rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=update.weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )


class Int8Moments:
    """Both moments in 8 bits with a scale for each block of 256, updated by bitsandbytes (Dettmers et al. 2022)."""

    def __init__(self, codes: PagedTensors, *, size: int, device: torch.device) -> None:
        """Take pages of two tensors of codes, whose pieces are multiples of 256 long."""
        self._codes = codes
        num_blocks = -(-size // INT8_BLOCK)
        self._scales = [torch.zeros(num_blocks, device=device) for _ in range(2)]
        self._maps = [make_map(signed=signed).to(device) for signed in (True, False)]

    def offload(self, open_store: Callable[[int], OffloadStore | None]) -> None:
        """Move the codes off the device; their scales, a 64th of them, stay."""
        self._codes.offload(open_store)
        # Scales of zero make every code a zero.

    def update(self, weights: torch.Tensor, gradients: torch.Tensor, update: Update) -> None:
        """Change weights and moments by one step of AdamW."""
        for place, (first, second) in self._codes.pieces():
            blocks = slice(place.start // INT8_BLOCK, -(-place.stop // INT8_BLOCK))
            quantiser.optimizer_update_8bit_blockwise(
                "adam",
                gradients[place],
                weights[place],
                first,
                second,
                BETA1,
                BETA2,
                0.0,
                0.0,
                EPSILON,
                update.step,
                update.learning_rate,
                self._maps[0],
                self._maps[1],
                self._scales[0][blocks],
                self._scales[1][blocks],
                weight_decay=update.weight_decay,
            )


@cache
def make_map(*, signed: bool) -> torch.Tensor:
    """Return the 256 values that 8-bit codes stand for, on the CPU; always the same, and made only once, value by value."""
    table: torch.Tensor = quantiser.create_dynamic_map(signed=signed)
    return table


def make_moments(
    precision: MomentPrecision, *, size: int, device: torch.device, open_store: Callable[[int], OffloadStore | None]
) -> Moments:
    """Return zero moments for `size` weights; `open_store` makes a store for places of so many bytes, or None for the device."""
    dtype = {MomentPrecision.FP32: torch.float32, MomentPrecision.INT8: torch.uint8}[precision]
    pages = PagedTensors((dtype, dtype), size=size, piece=MOMENT_PIECE, device=device, open_store=open_store)
    if precision is MomentPrecision.INT8:
        return Int8Moments(pages, size=size, device=device)
    return Fp32Moments(pages)
