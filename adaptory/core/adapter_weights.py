"""Reads and measures an adapter's weights in bounded memory, without torch.

Owns the decoding of the floats in a safetensors file; how large a norm may be is for `adapter_check` to say.
"""

import math
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from adaptory.core.errors import AdapterRejected
from adaptory.core.safetensors_header import DTYPE_BYTES, TensorEntry

_BLOCK_ELEMENTS = 1 << 20


def measure_norm(descriptor: int, tensor: TensorEntry) -> float:
    """Return the Frobenius norm of a tensor, summed in float64, where no square of a float32 overflows.

    It is infinite or NaN where a value is. Raises AdapterRejected (HEADER_INVALID) where the file shrank meanwhile.
    """
    total = 0.0
    for block in read_blocks(descriptor, tensor):
        # Not np.dot: BLAS would start its threads, which wait long for a core beside a busy engine.
        total += float(np.einsum("i,i->", block, block))
        if not math.isfinite(total):
            break
    return math.sqrt(total)


def read_blocks(descriptor: int, tensor: TensorEntry) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the values of a tensor in file order, at most `_BLOCK_ELEMENTS` at a time.

    Raises AdapterRejected (HEADER_INVALID) where the file shrank meanwhile.
    """
    step_bytes = _BLOCK_ELEMENTS * DTYPE_BYTES[tensor.dtype]
    for begin in range(tensor.begin, tensor.end, step_bytes):
        num_bytes = min(step_bytes, tensor.end - begin)
        raw = os.pread(descriptor, num_bytes, begin)
        if len(raw) != num_bytes:
            raise AdapterRejected(f"{tensor.name} was cut short while it was read", reason="HEADER_INVALID")
        yield _decode(raw, tensor.dtype)


def _decode(raw: bytes, dtype: str) -> npt.NDArray[np.float64]:
    # A signalling NaN makes numpy warn as it is widened; the caller finds it anyway.
    with np.errstate(invalid="ignore"):
        if dtype == "BF16":
            # bfloat16 is the upper half of a float32; numpy has no type of its own for it.
            bits = np.frombuffer(raw, "<u2").astype("<u4") << 16
            return bits.view("<f4").astype(np.float64)
        return np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)
