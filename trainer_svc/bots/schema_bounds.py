"""The bounds that an answer schema gives to numbers, lengths and items. Part of what `answer_schema` judges."""

from collections.abc import Iterator, Mapping

from adaptory.core.errors import InvalidRequest

_MAX_EXACT = 2**53

Schema = Mapping[str, object]


class BadSchema(InvalidRequest):
    """The schema is not taken; its reason begins with SCHEMA_, and `path` in the metadata is the place."""

    def __init__(self, reason: str, path: str, sentence: str) -> None:
        """`path` is a JSON path that begins with `$`; the sentence says what is wrong there, the limit and the way out."""
        field = InvalidRequest.of_field("answer_schema", f"{path} {sentence}")
        super().__init__(field.message, reason=f"SCHEMA_{reason}", violations=field.violations, metadata={"path": path})


def judge_range(schema: Schema, path: str, low: str, high: str, *, limit: int) -> None:
    """Raise BadSchema unless the two bounds of a size are whole, within the limit, and in order."""
    least, most = read_number(schema, low), read_number(schema, high)
    for keyword, bound in ((low, least), (high, most)):
        if isinstance(bound, float):
            raise BadSchema("UNSUPPORTED", f"{path}.{keyword}", f"is {bound}; write it as a whole number")
        if bound is not None and bound > limit:
            raise BadSchema("TOO_LARGE", f"{path}.{keyword}", f"is {bound}; at most {limit} is taken")
    if least is not None and most is not None and least > most:
        raise BadSchema("IMPOSSIBLE", path, f"has {low} {least} above {high} {most}, so that nothing conforms")


def judge_numbers(schema: Schema, path: str) -> None:
    """Raise BadSchema unless there is a number, or an integer, between the bounds, and JSON readers keep them exactly."""
    lows = [(value, key) for value, key in _bounds(schema, "minimum", "exclusiveMinimum")]
    highs = [(value, key) for value, key in _bounds(schema, "maximum", "exclusiveMaximum")]
    if len(lows) > 1 or len(highs) > 1:
        raise BadSchema("UNSUPPORTED", path, "has an exclusive bound beside an inclusive one; keep the tighter")
    for value, key in (*lows, *highs):
        if abs(value) >= _MAX_EXACT:
            raise BadSchema("TOO_LARGE", f"{path}.{key}", "is beyond what JSON readers keep exactly; stay below 2^53")
        if schema["type"] == "integer" and value != int(value):
            raise BadSchema("UNSUPPORTED", f"{path}.{key}", f"is {value}; the bounds of an integer are whole")
    if lows and highs:
        (least, low), (most, high) = lows[0], highs[0]
        is_open = low.startswith("exclusive") or high.startswith("exclusive")
        if schema["type"] == "integer":
            least, most, is_open = least + (low != "minimum"), most - (high != "maximum"), False
        if least > most or (least == most and is_open):
            sentence = f"has {low} {schema[low]} and {high} {schema[high]}, between which there is no {schema['type']}"
            raise BadSchema("IMPOSSIBLE", path, sentence)


def _bounds(schema: Schema, *keywords: str) -> Iterator[tuple[float, str]]:
    for keyword in keywords:
        if (value := read_number(schema, keyword)) is not None:
            yield value, keyword


def read_number(schema: Schema, keyword: str) -> float | None:
    """Return a keyword's value, which was seen to be a number, or None where it is left out."""
    value = schema.get(keyword)
    return value if isinstance(value, int | float) else None
