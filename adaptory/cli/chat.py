"""`adaptory chat`: ask a bot one question, or talk to it."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from adaptory.cli.output import AsJson, print_message
from adaptory.cli.target import target_of
from adaptory.client import BlockingClient, assistant, measure_certainty, user
from adaptory.core.errors import InvalidRequest
from adaptory.serve.v1.generation_pb2 import Finish, GeneratedToken, GenerationOptions
from adaptory.serve.v1.serve_service_pb2 import ChatMessage


def chat(
    context: typer.Context,
    bot: Annotated[str, typer.Argument(metavar="BOT", help="tenants/TENANT/bots/BOT, or one of its /versions/N.")],
    question: Annotated[str | None, typer.Argument(help="Left out, a conversation begins.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest words.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Ask a bot and see the answer as it is made, and how sure the bot was of it."""
    options = GenerationOptions(max_output_tokens=max_tokens, temperature=temperature, num_logprobs=0)
    tenant = bot.split("/")[1] if bot.startswith("tenants/") else "TENANT"
    with target_of(context).open_tenant_client(tenant) as client:
        if question is None:
            _converse(client, bot, options)
        elif as_json:
            print_message(client.chat.ask(bot, question, options=options), as_json=True)
        else:
            _answer(client, bot, [user(question)], options)


def _converse(client: BlockingClient, bot: str, options: GenerationOptions) -> None:
    if not sys.stdin.isatty():
        raise InvalidRequest.of_field("QUESTION", "is needed where nobody types; give it behind the bot's name")
    console, turns = Console(), list[ChatMessage]()
    console.print(Text("An empty line or Ctrl-D ends the conversation.", style="dim"))
    while question := _read_line(console):
        turns.append(user(question))
        turns.append(assistant(_answer(client, bot, turns, options)))


def _read_line(console: Console) -> str:
    try:
        return console.input("[bold]> [/]").strip()
    except EOFError:
        return ""


def _answer(client: BlockingClient, bot: str, turns: list[ChatMessage], options: GenerationOptions) -> str:
    pieces: list[str] = []
    tokens: list[GeneratedToken] = []
    finish = Finish()
    for piece in client.chat.stream(bot, turns, options=options):
        sys.stdout.write(piece.text)
        sys.stdout.flush()
        pieces.append(piece.text)
        tokens.extend(piece.tokens)
        finish = piece.finish
    sys.stdout.write("\n")
    Console(stderr=True).print(Text(_describe(finish, tokens), style="dim"), soft_wrap=True)
    return "".join(pieces)


def _describe(finish: Finish, tokens: list[GeneratedToken]) -> str:
    cut = ", cut at its longest" if finish.reason == Finish.REASON_LENGTH else ""
    first = f"{finish.time_to_first_token_seconds * 1000:,.0f} ms to the first"
    sure = f" · certainty {measure_certainty(tokens):.2f}" if tokens else ""
    return f"{finish.version} · {finish.num_output_tokens} tokens, {first}{cut}{sure}"
