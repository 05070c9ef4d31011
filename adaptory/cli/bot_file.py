"""What a bot is told, taught and judged by, written in a TOML file in the contract's own words.

Longer than options are good for: style rules, questions to refuse, thresholds of the gate, defaults of generation. The service checks
what the fields hold; here a file is read, and its fields are known.
"""

import tomllib
from pathlib import Path

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
    bot = Bot()
    try:
        json_format.ParseDict(fields, bot)
    except json_format.ParseError as error:
        raise InvalidRequest.of_field(_OPTION, f"{file} does not describe a bot: {error}") from error
    return bot
