"""Writes a safetensors file tensor by tensor, so that a base larger than memory can pass through.

Every tensor is bf16, which is all a prepared base holds; reading such files strictly is `adaptory.core.safetensors_header`'s.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

BF16_BYTES = 2
_ALIGNMENT_BYTES = 8


class SafetensorsWriter:
    """Writes tensors in the order of `shapes`; the file is flushed to disk when the block ends without an error."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Create the file and write its header."""
        self._names = iter(shapes)
        self._shapes = shapes
        self._file = path.open("wb")
        self._file.write(_encode_header(shapes))

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush to disk and close."""
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Append the next tensor; order, shape and dtype must be as announced."""
        assert name == next(self._names), "tensors come in the order of the header"  # noqa: S101 - our own invariant
        assert tuple(tensor.shape) == self._shapes[name], "shapes are as announced"  # noqa: S101 - the same
        assert tensor.dtype is torch.bfloat16, "a prepared base is bf16 throughout"  # noqa: S101 - the same
        self._file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)


def _encode_header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    # transformers refuses a file whose metadata does not name its framework.
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * BF16_BYTES
        fields[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT_BYTES)
    return struct.pack("<Q", len(header)) + header
