"""Reads the header of a safetensors file strictly: each byte has its place before any weight is read.

Owns the format (https://github.com/huggingface/safetensors#format); which tensors an adapter needs is for
`adapter_check` to say. Stricter than the format where readers might differ: no duplicate names, no unknown
fields, header padded to 8 bytes.
"""

import math
import os
import struct
from dataclasses import dataclass

from adaptory.core.errors import AdapterRejected
from adaptory.core.strict_json import parse_object

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_PREFIX = struct.Struct("<Q")
_ALIGNMENT_BYTES = 8
_MAX_DIMENSIONS = 8
_MAX_SIZE = 1 << 48


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file: `begin` and `end` are absolute byte offsets."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)


def read_header(descriptor: int, *, max_header_bytes: int, max_tensors: int) -> dict[str, TensorEntry]:
    """Return the tensors of an open safetensors file by name, in file order.

    Raises:
        AdapterRejected: HEADER_INVALID or DTYPE_UNSUPPORTED; the message says which rule is broken.
    """
    file_bytes = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, _PREFIX.size, 0)
    if len(prefix) < _PREFIX.size:
        raise _invalid(f"the file has {len(prefix)} bytes, not even the 8 of the header's length")
    (header_bytes,) = _PREFIX.unpack(prefix)
    data_begin = _PREFIX.size + header_bytes
    if header_bytes > max_header_bytes:
        raise _invalid(f"the header says it has {header_bytes} bytes; at most {max_header_bytes} are read")
    if data_begin > file_bytes:
        raise _invalid(f"the header says it has {header_bytes} bytes, the file has {file_bytes}: it was cut short")
    if data_begin % _ALIGNMENT_BYTES:
        raise _invalid(f"the header has {header_bytes} bytes, not a multiple of {_ALIGNMENT_BYTES}")
    fields = _parse_fields(os.pread(descriptor, header_bytes, _PREFIX.size))
    if not 0 < len(fields) <= max_tensors:
        raise _invalid(f"the header names {len(fields)} tensors; between 1 and {max_tensors} are allowed")
    entries = sorted((_parse_entry(name, field, data_begin) for name, field in fields.items()), key=_place)
    _check_coverage(entries, data_begin, file_bytes)
    return {entry.name: entry for entry in entries}


def quote(name: str) -> str:
    """Show a name that came from a file: ASCII only and short, whatever it held."""
    return ascii(name[:100])


def _parse_fields(raw: bytes) -> dict[str, object]:
    # The format wants the object to begin at once; JSON itself would allow white space there.
    if not raw.startswith(b"{"):
        raise _invalid("the header does not begin with '{'")
    try:
        fields = parse_object(raw)
    except ValueError as err:
        raise _invalid(f"the header is not strict JSON: {ascii(str(err))[1:-1][:200]}") from err
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _invalid("__metadata__ must map text to text")
    return fields


def _parse_entry(name: str, field: object, data_begin: int) -> TensorEntry:
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise _invalid(f"tensor {quote(name)} must have exactly dtype, shape and data_offsets")
    dtype = field["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise AdapterRejected(
            f"tensor {quote(name)} has dtype {quote(str(dtype))}, not one of {', '.join(DTYPE_BYTES)}",
            reason="DTYPE_UNSUPPORTED",
            metadata={"tensor": quote(name), "dtype": quote(str(dtype))},
        )
    shape, offsets = _parse_sizes(name, field["shape"]), _parse_sizes(name, field["data_offsets"])
    num_bytes = math.prod(shape) * DTYPE_BYTES[dtype]
    if len(offsets) != len(("begin", "end")) or offsets[1] - offsets[0] != num_bytes:
        raise _invalid(f"tensor {quote(name)} of {dtype} {list(shape)} needs {num_bytes} bytes, not {list(offsets)}")
    return TensorEntry(name, dtype, shape, data_begin + offsets[0], data_begin + offsets[1])


def _parse_sizes(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
        raise _invalid(f"tensor {quote(name)}: shape and data_offsets are lists of at most {_MAX_DIMENSIONS} sizes")
    if not all(type(size) is int and 0 <= size < _MAX_SIZE for size in value):
        raise _invalid(f"tensor {quote(name)}: a size or offset is not a whole number from 0 to {_MAX_SIZE}")
    return tuple(value)


def _place(entry: TensorEntry) -> tuple[int, int]:
    return entry.begin, entry.end


def _check_coverage(entries: list[TensorEntry], data_begin: int, file_bytes: int) -> None:
    """Every byte of the data belongs to one tensor: no gap, no overlap, no tail."""
    expected = data_begin
    for entry in entries:
        if entry.begin != expected:
            problem = "overlaps the tensor before it" if entry.begin < expected else "leaves a gap before it"
            raise _invalid(f"tensor {quote(entry.name)} {problem}: begins at byte {entry.begin}, not {expected}")
        expected = entry.end
    if expected != file_bytes:
        raise _invalid(f"the tensors end at byte {expected}, the file at {file_bytes}")


def _invalid(problem: str) -> AdapterRejected:
    return AdapterRejected(f"adapter_model.safetensors: {problem}", reason="HEADER_INVALID")
