"""Writes the weights of an adapter anew: under PEFT's names, in bf16, in memory that does not grow with them."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from adaptory.core.adapter_weights import read_blocks
from adaptory.core.safetensors_header import TensorEntry

_BF16_BYTES = 2
_ALIGNMENT_BYTES = 8
_QUIET_NAN = 0x7FC0


def write_weights(descriptor: int, tensors: Mapping[str, TensorEntry], path: Path) -> None:
    """Write tensors of an open safetensors file, by their new names, to a new file, as PEFT does; values are rounded to even.

    Raises AdapterRejected (HEADER_INVALID) where the file shrank meanwhile, OSError.
    """
    with path.open("xb") as file:
        _write_header(file, tensors)
        for name in sorted(tensors):
            for block in read_blocks(descriptor, tensors[name]):
                file.write(_round(block).tobytes())


def _write_header(file: BinaryIO, tensors: Mapping[str, TensorEntry]) -> None:
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name in sorted(tensors):
        end = begin + tensors[name].num_elements * _BF16_BYTES
        fields[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT_BYTES)
    file.write(struct.pack("<Q", len(header)) + header)


def _round(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Return bf16 bits, rounded half to even as torch does; values come from at most 32 bits, so the way through fp32 is exact."""
    bits = values.astype("<f4").view("<u4")
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    # Rounding up the bits of a NaN may make an infinity, or a zero, of it.
    return np.where(np.isnan(values), np.uint16(_QUIET_NAN), rounded).astype("<u2")
