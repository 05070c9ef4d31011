"""How frozen weights are held: in bf16, in 4-bit NF4, in int8, or away from the device.

Whatever holds them, a product reads them in what is computed in, bf16 or fp16: `dense` says what that takes for a moment. Loading is
`base`'s.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import bitsandbytes.functional as quantiser
import torch

from trainer_svc.memory.layout import NF4_BLOCK_SIZE, SLAB_ELEMENTS
from trainer_svc.worker.compute import recast_
from trainer_svc.worker.offload import OffloadStore
from trainer_svc.worker.scratch import Scratch

_INT8_MAX = 127


class FrozenWeight(Protocol):
    """A matrix [out, in] that never changes."""

    def dense(self, scratch: Scratch) -> torch.Tensor:
        """Return it in what is computed in; what is returned may lie in the scratch's present frame."""


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """Held in what is computed in."""

    values: torch.Tensor

    def dense(self, scratch: Scratch) -> torch.Tensor:  # noqa: ARG002 - nothing is made
        """Return the values themselves."""
        return self.values


class Nf4Weight:
    """Held in 4 bits (NF4, double quantisation, blocks of 64): each part is quantised by itself, as bitsandbytes' Linear4bit does."""

    def __init__(self, parts: Iterator[torch.Tensor]) -> None:
        """Quantise the parts [out_i, in], one after the other."""
        self._parts = [
            quantiser.quantize_4bit(part, blocksize=NF4_BLOCK_SIZE, compress_statistics=True, quant_type="nf4")
            for part in parts
        ]

    def dense(self, scratch: Scratch) -> torch.Tensor:
        """Return the dequantised matrix, in scratch."""
        num_rows = sum(state.shape[0] for _, state in self._parts)
        dense = scratch.take(num_rows, self._parts[0][1].shape[1])
        for (codes, state), out in zip(
            self._parts, dense.split_with_sizes([state.shape[0] for _, state in self._parts]), strict=True
        ):
            _dequantise_nf4(codes, state, out)
        return dense

    def offload(self, store: OffloadStore, place: int) -> "OffloadedNf4Weight":
        """Move the codes to a store; their scales, a thirtieth of them, stay."""
        store.put(place, torch.cat([codes for codes, _ in self._parts]))
        return OffloadedNf4Weight([state for _, state in self._parts], store, place)


class OffloadedNf4Weight:
    """Held in 4 bits away from the device; only its scales are on it."""

    def __init__(self, states: list[quantiser.QuantState], store: OffloadStore, place: int) -> None:
        """Keep the scales, and where the codes are."""
        self._states = states
        self._store = store
        self._place = place

    def dense(self, scratch: Scratch) -> torch.Tensor:
        """Return the dequantised matrix; it and its codes are in scratch."""
        rows = [state.shape[0] for state in self._states]
        columns = self._states[0].shape[1]
        dense = scratch.take(sum(rows), columns)
        with scratch.frame():
            codes = self._store.get(self._place, scratch.take(sum(rows) * columns // 2, 1, dtype=torch.uint8))
            parts = zip(
                codes.split_with_sizes([count * columns // 2 for count in rows]),
                self._states,
                dense.split_with_sizes(rows),
                strict=True,
            )
            for part_codes, state, out in parts:
                _dequantise_nf4(part_codes, state, out)
        return dense


class Int8Weight:
    """Held in 8 bits, each row scaled by its largest value, as bitsandbytes' Linear8bitLt holds it; no outliers are set apart."""

    def __init__(self, values: torch.Tensor) -> None:
        """Round the matrix."""
        self._codes = torch.empty(values.shape, dtype=torch.int8, device=values.device)
        self._scales = torch.empty((values.shape[0], 1), dtype=torch.float32, device=values.device)
        for place in _cut_slabs(values):
            wide = values[place].float()
            self._scales[place] = (
                wide.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / _INT8_MAX
            )
            self._codes[place] = wide.div_(self._scales[place]).round_()

    def dense(self, scratch: Scratch) -> torch.Tensor:
        """Return the rounded matrix, in scratch."""
        dense = scratch.take(*self._codes.shape)
        for place in _cut_slabs(self._codes):
            dense[place] = self._codes[place].float().mul_(self._scales[place])
        return dense


class StreamedWeight:
    """Read from its file each time it is needed."""

    def __init__(self, shape: tuple[int, ...], read: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Keep how the matrix is read into a tensor of its shape."""
        self._shape = shape
        self._read = read

    def dense(self, scratch: Scratch) -> torch.Tensor:
        """Return the matrix as read, in scratch."""
        return self._read(scratch.take(*self._shape))


@dataclass(frozen=True, slots=True)
class FrozenLinears:
    """The linear layers of one group: outputs of `widths` elements, one below the other in `weight`."""

    weight: FrozenWeight
    bias: torch.Tensor | None
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """One decoder layer: its groups by name and its norms; not every architecture has those of heads and of outputs."""

    linears: dict[str, FrozenLinears]
    input_norm: torch.Tensor
    mlp_norm: torch.Tensor
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    attention_output_norm: torch.Tensor | None
    mlp_output_norm: torch.Tensor | None


def _dequantise_nf4(codes: torch.Tensor, state: quantiser.QuantState, out: torch.Tensor) -> None:
    """Write a matrix to `out`, by way of the bf16 values that are served."""
    served = out.view(torch.bfloat16)
    if out.is_cuda:
        quantiser.dequantize_4bit(codes, state, out=served)
    else:
        _dequantise_by_slabs(codes, state, served)
    recast_(served, out.dtype)


def _dequantise_by_slabs(codes: torch.Tensor, state: quantiser.QuantState, out: torch.Tensor) -> None:
    """Write a matrix to `out` slab by slab: on a CPU bitsandbytes allocates what it returns."""
    scales = quantiser.dequantize_blockwise(state.absmax, state.state2).add_(state.offset)
    columns = state.shape[1]
    if columns % NF4_BLOCK_SIZE:
        # Blocks run over the ends of rows, so no slab of rows has scales of its own.
        out.copy_(quantiser.dequantize_4bit(codes, state))
        return
    for place in _cut_slabs(out):
        rows = place.stop - place.start
        slab = torch.ops.bitsandbytes.dequantize_4bit.default(
            codes[place.start * columns // 2 : place.stop * columns // 2],
            scales[place.start * columns // NF4_BLOCK_SIZE : place.stop * columns // NF4_BLOCK_SIZE],
            NF4_BLOCK_SIZE,
            "nf4",
            (rows, columns),
            out.dtype,
        )
        out[place] = slab


def _cut_slabs(matrix: torch.Tensor) -> Iterator[slice]:
    rows = max(1, SLAB_ELEMENTS // matrix.shape[1])
    for begin in range(0, matrix.shape[0], rows):
        yield slice(begin, min(begin + rows, matrix.shape[0]))
