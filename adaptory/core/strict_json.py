"""Parses JSON that nobody vouches for: one object, no duplicate keys, no NaN or infinity, bounded depth."""

import json
import math
from typing import NoReturn


def parse_object(raw: bytes) -> dict[str, object]:
    """Parse `raw` as one JSON object.

    Raises:
        ValueError: Not UTF-8, not JSON, no object, a duplicate key, a number that is not finite, too deep.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_parse_finite,
        )
    except RecursionError as err:
        raise ValueError("nested too deep") from err
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not an object")  # noqa: TRY004 - bad data
    return value


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Readers disagree on which of two equal keys wins: what we judge could differ from what the engine loads.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not finite")
    return value
