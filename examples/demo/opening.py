"""The first thing a bot is asked once it is trained: a question, or a place in a file to go on at."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from adaptory.client import AdaptoryClient
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.serve.v1.serve_service_pb2 import ChatResponse, CompleteResponse

_OPTIONS = GenerationOptions(max_output_tokens=96, temperature=0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a file, between what stands before it and behind it."""

    prefix: str
    suffix: str


Opening = str | Cursor


def stream_reply(
    client: AdaptoryClient, bot: str, opening: Opening, options: GenerationOptions
) -> AsyncIterator[ChatResponse | CompleteResponse]:
    """Return the pieces of what `bot` makes of the opening; the last one has `finish`."""
    match opening:
        case Cursor(prefix, suffix):
            return client.completion.stream(bot, prefix, suffix, options=options)
        case str():
            return client.chat.stream(bot, opening, options=options)


async def hear_reply(client: AdaptoryClient, bot: str, opening: Opening) -> str:
    """Return what `bot` makes of the opening, as a whole."""
    pieces = [piece.text async for piece in stream_reply(client, bot, opening, _OPTIONS)]
    return "".join(pieces).strip()
