"""`adaptory complete`: have a code bot fill in what is missing at a place of a file."""

import enum
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from adaptory.cli.output import AsJson, print_message
from adaptory.cli.target import target_of
from adaptory.core.errors import InvalidRequest
from adaptory.serve.v1.generation_pb2 import Finish, GenerationOptions
from adaptory.serve.v1.serve_service_pb2 import CompleteRequest, CompletionContext

_PLACE = re.compile(r"(?P<line>[1-9]\d*)(?::(?P<column>[1-9]\d*))?")


class Stop(enum.StrEnum):
    """Where a completion ends."""

    LINE = "line"
    BLOCK = "block"
    END = "end"


_STOPS = {
    Stop.LINE: CompleteRequest.STOP_AT_LINE,
    Stop.BLOCK: CompleteRequest.STOP_AT_BLOCK,
    Stop.END: CompleteRequest.STOP_AT_END,
}


def complete(
    context: typer.Context,
    bot: Annotated[str, typer.Argument(metavar="BOT", help="tenants/TENANT/bots/BOT, or one of its /versions/N.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The code around the cursor; - reads standard input.")],
    at: Annotated[
        str, typer.Option(metavar="LINE[:COLUMN]", help="The cursor, both from 1; without a column the line's end.")
    ] = "",
    stop: Annotated[Stop, typer.Option(help="Where the completion ends.")] = Stop.LINE,
    max_tokens: Annotated[int | None, typer.Option(help="Longest completion in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest words.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Complete code at a place of a file, or at its end, and see it as it is made."""
    prefix, suffix = _split(_read(file), at)
    stop_at = _STOPS[stop]
    options = GenerationOptions(max_output_tokens=max_tokens, temperature=temperature)
    tenant = bot.split("/")[1] if bot.startswith("tenants/") else "TENANT"
    with target_of(context).open_tenant_client(tenant) as client:
        if as_json:
            answer = client.completion.fill(bot, prefix, suffix, stop_at=stop_at, options=options)
            print_message(answer, as_json=True)
            return
        finish, read = Finish(), CompletionContext()
        for piece in client.completion.stream(bot, prefix, suffix, stop_at=stop_at, options=options):
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            finish, read = piece.finish, piece.context
    sys.stdout.write("\n")
    Console(stderr=True).print(Text(_describe(finish, read), style="dim"), soft_wrap=True)


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest.of_field("FILE", f"{file} cannot be read as UTF-8 text: {error}") from error


def _split(text: str, at: str) -> tuple[str, str]:
    """Return what stands before and behind the place `at`."""
    if not at:
        return text, ""
    match = _PLACE.fullmatch(at)
    if match is None:
        raise InvalidRequest.of_field("--at", f"is {at!r}; write LINE or LINE:COLUMN, both from 1, such as 12:5")
    lines = text.split("\n")
    line = int(match["line"])
    if line > len(lines):
        raise InvalidRequest.of_field("--at", f"names line {line}; the file has {len(lines)}")
    length = len(lines[line - 1])
    column = int(match["column"] or length + 1)
    if column > length + 1:
        raise InvalidRequest.of_field("--at", f"names column {column}; line {line} ends at {length + 1}")
    place = sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
    return text[:place], text[place:]


def _describe(finish: Finish, read: CompletionContext) -> str:
    cut = ", cut at its longest" if finish.reason == Finish.REASON_LENGTH else ""
    first = f"{finish.time_to_first_token_seconds * 1000:,.0f} ms to the first"
    trimmed = read.num_trimmed_prefix_chars + read.num_trimmed_suffix_chars
    unread = f", {trimmed:,} characters far from the cursor not read" if trimmed else ""
    return f"{finish.version} · {finish.num_output_tokens} tokens, {first}{cut}{unread}"
