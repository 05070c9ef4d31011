"""What a bot is told, taught and judged by, written in a TOML file in the contract's own words.

Longer than options are good for: style rules, questions to refuse, thresholds of the gate, defaults of generation. The service checks
what the fields hold; here a file is read, and its fields are known. The JSON schema of answers stands in it as a table, or in a file.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1.bot_pb2 import Bot

FIELDS = (
    "display_name",
    "system_prompt",
    "refusal_text",
    "unanswerable_questions",
    "style_rules",
    "quality_gate",
    "generation_defaults",
    "answer_schema",
    "answer_schema_file",
)
_OPTION = "--file"


def read_bot_file(file: Path) -> Bot:
    """Return a bot with what stands in the file. Raises InvalidRequest where it cannot be read or has other fields."""
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest.of_field(_OPTION, f"{file} cannot be read as TOML: {error}") from error
    if unknown := sorted(fields.keys() - set(FIELDS)):
        sentence = f"{file} has {', '.join(unknown)}; a bot's file may have {', '.join(FIELDS)}"
        raise InvalidRequest.of_field(_OPTION, sentence)
    bot = Bot(answer_schema=_take_schema(fields, file))
    try:
        json_format.ParseDict(fields, bot)
    except json_format.ParseError as error:
        raise InvalidRequest.of_field(_OPTION, f"{file} does not describe a bot: {error}") from error
    return bot


def read_schema_file(file: Path, *, option: str) -> str:
    """Return the text of a file with a JSON schema. Raises InvalidRequest, naming the option, where it cannot be read or is empty."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest.of_field(option, f"{file} cannot be read: {error}") from error
    if not text.strip():
        raise InvalidRequest.of_field(option, f"{file} is empty; it must hold a JSON schema")
    return text


def _take_schema(fields: dict[str, Any], file: Path) -> str:
    """Return the schema that the fields hold, as a table or as the path of a file beside this one, and take it out of them."""
    table, path = fields.pop("answer_schema", None), fields.pop("answer_schema_file", None)
    if table is not None and path is not None:
        raise InvalidRequest.of_field(_OPTION, f"{file} has answer_schema and answer_schema_file; keep one of them")
    if path is not None:
        return read_schema_file(file.parent / str(path), option=_OPTION)
    try:
        return "" if table is None else json.dumps(table, ensure_ascii=False)
    except TypeError as error:
        raise InvalidRequest.of_field(_OPTION, f"{file} has a date in answer_schema: write it as a text") from error
