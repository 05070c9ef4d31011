"""What commands print: a table or a sentence for people, the contract's own JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def to_dict(message: Message) -> dict[str, object]:
    """Return a message under the contract's field names, unset fields included."""
    fields: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def print_json(value: object) -> None:
    """Print one JSON value on one line of standard output."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_message(message: Message, *, as_json: bool) -> None:
    """Print one message: as JSON, or its fields one under the other."""
    fields = to_dict(message)
    if as_json:
        print_json(fields)
        return
    print_fields(fields)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print fields one under the other; those that are empty are left out."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        if value not in ("", [], {}, None):
            table.add_row(Text(name, style="dim"), Text(_to_text(value)))
    Console().print(table)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; cells are plain text, never markup, and never cut: names are there to be copied."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def say(sentence: str) -> None:
    """Print a sentence for people."""
    Console().print(Text(sentence), soft_wrap=True)


def note(sentence: str) -> None:
    """Print a sentence about the work on standard error, where it disturbs no program that reads the result."""
    Console(stderr=True).print(Text(sentence, style="dim"), soft_wrap=True)


def _to_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) if isinstance(value, dict | list) else str(value)
