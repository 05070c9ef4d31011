"""Judges the JSON schema that a bot's answers are to conform to: only what an engine's grammar enforces, all of it, is taken.

The engine is vLLM with xgrammar. What that ignores (`multipleOf`, `allOf`, siblings of `anyOf` …) or compiles for minutes (`pattern`)
is refused here; a contract test lets it speak at random by schemas that pass, and has `jsonschema` judge what it says.
"""

import json
from collections.abc import Mapping, Sequence

from jsonschema import Draft202012Validator, SchemaError

from adaptory.core.strict_json import parse_object
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.schema_bounds import BadSchema, Schema, judge_numbers, judge_range, read_number

MAX_BYTES = 16_384
_MAX_LEVELS = 8
# The server parses the grammar anew for each request: some milliseconds for so many.
_MAX_SCHEMAS = 64
_MAX_CHOICES = 256
_MAX_ITEMS = 256
_MAX_CHARS = 4_096
_MAX_NAME_CHARS = 64
# Each span of lengths costs about as many states as its longest text has characters, up to 128: seconds of compiling on two cores.
_MAX_LENGTH_COST = 512
_MOST_COSTLY_LENGTH = 128
_MAX_MESSAGE_CHARS = 200

_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$comment", "$schema"})
_FORMS = ("type", "enum", "const", "anyOf", "$ref")
_OF_NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_OF_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": _OF_NUMBER,
    "number": _OF_NUMBER,
    "boolean": frozenset(),
    "null": frozenset(),
}
_FORMATS = ("email", "uuid")
_REF = "#/$defs/"


def check_answer_schema(text: str) -> None:
    """Raise BadSchema unless an engine can keep every answer to the schema, and some answer conforms."""
    schema = _parse(text)
    _Judge(schema).judge()


def require_schema_kind(kind: BotKind) -> None:
    """Raise BadSchema for a kind of bot whose answers are no JSON."""
    if kind not in (BotKind.FAQ, BotKind.SUPPORT):
        raise BadSchema("WRONG_KIND", "$", f"is for bots of kind FAQ and SUPPORT; this one is of kind {kind}")


def _parse(text: str) -> Schema:
    num_bytes = len(text.encode())
    if num_bytes > MAX_BYTES:
        raise BadSchema("TOO_LARGE", "$", f"has {num_bytes} bytes; at most {MAX_BYTES} are taken")
    try:
        schema = parse_object(text.encode())
        json.dumps(schema, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        sentence = f"is no schema of draft 2020-12: {error.message[:_MAX_MESSAGE_CHARS]}"
        raise BadSchema("INVALID", error.json_path, sentence) from error
    except RecursionError as error:
        raise BadSchema("TOO_LARGE", "$", f"is nested too deep; at most {_MAX_LEVELS} levels are taken") from error
    except ValueError as error:
        raise BadSchema("NOT_JSON", "$", f"is no JSON object: {str(error)[:_MAX_MESSAGE_CHARS]}") from error
    return schema


class _Judge:
    """Walks one schema as a grammar of it would be made: what `$ref` names is walked at each place that names it."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._num_schemas = 0
        self._num_choices = 0
        self._lengths: dict[tuple[int, int], int] = {}

    def judge(self) -> None:
        """Raise BadSchema for the first thing that is wrong."""
        self._judge_names()
        if self._root.get("type") != "object":
            raise BadSchema("NOT_AN_OBJECT", "$", "must be of type object, whose properties an answer tells")
        self._visit(self._root, "$", ())

    def _judge_names(self) -> None:
        for name in _mapping(self._root.get("$defs")):
            if "/" in name or "~" in name or "%" in name:
                raise BadSchema("UNSUPPORTED", "$.$defs", f"has the name {name!r}; leave out /, ~ and %")

    def _visit(self, schema: object, path: str, trail: tuple[str, ...], level: int = 1) -> None:
        """`trail` has the definitions that led here, the outermost first."""
        self._num_schemas += 1
        if level > _MAX_LEVELS:
            raise BadSchema("TOO_LARGE", path, f"is at level {level}; at most {_MAX_LEVELS} are taken")
        if self._num_schemas > _MAX_SCHEMAS:
            sentence = f"is one schema too many, with those that $ref names; at most {_MAX_SCHEMAS} are taken"
            raise BadSchema("TOO_LARGE", path, sentence)
        if not isinstance(schema, Mapping):
            _refuse_boolean(schema, path)
            return
        form = _find_form(schema, path)
        allowed = {form} | (_OF_TYPE[_type_of(schema, path)] if form == "type" else set())
        if form in ("enum", "const"):
            allowed.add("type")
        if level == 1:
            allowed.add("$defs")
        if unknown := sorted(schema.keys() - allowed - _ANNOTATIONS):
            sentence = f"has {', '.join(unknown)}, not enforced beside {form}; leave it out"
            raise BadSchema("UNSUPPORTED", path, sentence)
        self._visit_form(schema, form, path, trail, level)

    def _visit_form(self, schema: Schema, form: str, path: str, trail: tuple[str, ...], level: int) -> None:
        match form:
            case "enum":
                self._judge_choices(_sequence(schema["enum"]), schema, f"{path}.enum")
            case "const":
                self._judge_choices([schema["const"]], schema, f"{path}.const")
            case "anyOf":
                for place, branch in enumerate(_sequence(schema["anyOf"])):
                    self._visit(branch, f"{path}.anyOf[{place}]", trail, level + 1)
            case "$ref":
                self._follow(str(schema["$ref"]), path, trail, level)
            case _:
                self._visit_type(schema, path, trail, level)

    def _visit_type(self, schema: Schema, path: str, trail: tuple[str, ...], level: int) -> None:
        match schema["type"]:
            case "object":
                self._visit_object(schema, path, trail, level)
            case "array":
                judge_range(schema, path, "minItems", "maxItems", limit=_MAX_ITEMS)
                if "items" not in schema:
                    raise BadSchema("UNSUPPORTED", path, "is an array without items; say what it holds")
                self._visit(schema["items"], f"{path}.items", trail, level + 1)
            case "string":
                self._judge_string(schema, path)
            case "integer" | "number":
                judge_numbers(schema, path)

    def _visit_object(self, schema: Schema, path: str, trail: tuple[str, ...], level: int) -> None:
        if schema.get("additionalProperties", False) is not False:
            sentence = "may be false alone: an answer has the properties that are listed"
            raise BadSchema("UNSUPPORTED", f"{path}.additionalProperties", sentence)
        properties = _mapping(schema.get("properties"))
        for name in _sequence(schema.get("required")):
            if name not in properties:
                sentence = f"has {name!r}, which is none of the properties, so that no answer could have it"
                raise BadSchema("IMPOSSIBLE", f"{path}.required", sentence)
        if not properties:
            raise BadSchema("UNSUPPORTED", path, "is an object without properties; say what it holds")
        for name, value in properties.items():
            if not name.isprintable() or not 1 <= len(name) <= _MAX_NAME_CHARS or {'"', "\\"} & set(name):
                sentence = (
                    f'has the name {name!r}; take 1 to {_MAX_NAME_CHARS} printable characters other than " and \\'
                )
                raise BadSchema("UNSUPPORTED", f"{path}.properties", sentence)
            self._visit(value, f"{path}.properties.{name}", trail, level + 1)

    def _judge_choices(self, values: Sequence[object], schema: Schema, path: str) -> None:
        if not values:
            raise BadSchema("IMPOSSIBLE", path, "is empty, so that nothing conforms")
        self._num_choices += len(values)
        if self._num_choices > _MAX_CHOICES:
            sentence = f"brings the values of enum and const to {self._num_choices}; at most {_MAX_CHOICES} are taken"
            raise BadSchema("TOO_LARGE", path, sentence)
        for value in values:
            if not (value is None or isinstance(value, str | int)):
                sentence = f"has {json.dumps(value)[:40]}; texts, whole numbers, booleans and null are taken"
                raise BadSchema("UNSUPPORTED", path, sentence)
            if not _is_of_type(value, schema.get("type")):
                sentence = f"has {json.dumps(value)[:40]}, which is not of type {schema['type']}"
                raise BadSchema("IMPOSSIBLE", path, sentence)

    def _judge_string(self, schema: Schema, path: str) -> None:
        judge_range(schema, path, "minLength", "maxLength", limit=_MAX_CHARS)
        has_length = "minLength" in schema or "maxLength" in schema
        if "format" in schema:
            if schema["format"] not in _FORMATS:
                sentence = f"is {schema['format']}; enforced are {', '.join(_FORMATS)}"
                raise BadSchema("UNSUPPORTED", f"{path}.format", sentence)
            if has_length:
                raise BadSchema("UNSUPPORTED", path, "has a format and a length; only one of them is enforced")
        if has_length:
            span = (read_number(schema, "minLength") or 0, read_number(schema, "maxLength") or 0)
            self._lengths[int(span[0]), int(span[1])] = min(int(max(span)), _MOST_COSTLY_LENGTH)
        if (cost := sum(self._lengths.values())) > _MAX_LENGTH_COST:
            sentence = (
                f"brings the lengths of texts, each other one counted up to {_MOST_COSTLY_LENGTH}, to {cost}; "
                f"at most {_MAX_LENGTH_COST} are taken: give several texts the same lengths"
            )
            raise BadSchema("TOO_LARGE", path, sentence)

    def _follow(self, reference: str, path: str, trail: tuple[str, ...], level: int) -> None:
        name = reference.removeprefix(_REF)
        definitions = _mapping(self._root.get("$defs"))
        if not reference.startswith(_REF) or name not in definitions:
            sentence = f"is {reference[:80]!r}; a reference names a schema of the root's $defs, as {_REF}NAME"
            raise BadSchema("REF", f"{path}.$ref", sentence)
        if name in trail:
            raise BadSchema("REF", f"{path}.$ref", f"leads back to {name}; write out the levels that you need")
        self._visit(definitions[name], f"$.$defs.{name}", (*trail, name), level + 1)


def _refuse_boolean(schema: object, path: str) -> None:
    if schema is False:
        raise BadSchema("IMPOSSIBLE", path, "is false, to which nothing conforms")
    raise BadSchema("UNSUPPORTED", path, "is true, any JSON; say what it holds")


def _find_form(schema: Schema, path: str) -> str:
    forms = [form for form in _FORMS if form in schema]
    if forms in (["type", "enum"], ["type", "const"]):
        return forms[1]
    if len(forms) == 1:
        return forms[0]
    others = ", ".join(sorted(schema.keys() - _ANNOTATIONS)) or "nothing"
    raise BadSchema("UNSUPPORTED", path, f"has {others}; exactly one of {', '.join(_FORMS)} is taken")


def _type_of(schema: Schema, path: str) -> str:
    if not isinstance(named := schema["type"], str):
        raise BadSchema("UNSUPPORTED", f"{path}.type", "has several types; put each into a schema of anyOf")
    return named


def _is_of_type(value: object, named: object) -> bool:
    # jsonschema's own judgement: a boolean is no integer.
    return named is None or Draft202012Validator({"type": named}).is_valid(value)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
