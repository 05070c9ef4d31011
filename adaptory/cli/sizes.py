"""Sizes as people write them: `8GiB`, `512 MiB`, `1.5GB`, `1048576`."""

import re

from adaptory.core.errors import InvalidRequest

_UNITS: dict[str, int] = {"": 1, "B": 1} | {
    unit: factor**power
    for power, letter in enumerate("KMGT", start=1)
    for unit, factor in ((f"{letter}B", 1000), (f"{letter}IB", 1024), (letter, 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_KIB = 2**10
_MIB = 2**20
_GIB = 2**30


def parse_bytes(text: str, *, field: str) -> int:
    """Return the bytes that `text` names. Raises InvalidRequest that names `field` and shows how to write a size."""
    match = _SIZE.fullmatch(text)
    factor = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or factor is None:
        sentence = f"{text!r} is not a size; write it like 8GiB, 512MiB, 1.5GB or 1048576 (bytes)"
        raise InvalidRequest.of_field(field, sentence)
    number: str = match.group(1)
    return round(float(number) * factor)


def format_bytes(size_bytes: float) -> str:
    """Return a size with three or four digits and its unit."""
    if size_bytes >= 10 * _GIB:
        return f"{size_bytes / _GIB:.1f} GiB"
    if size_bytes >= _MIB:
        return f"{size_bytes / _MIB:,.0f} MiB"
    return f"{size_bytes / _KIB:,.1f} KiB" if size_bytes >= _KIB else f"{size_bytes:.0f} bytes"
