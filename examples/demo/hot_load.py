"""Measures how soon a promoted version answers on a server that goes on serving, and how soon a warm one does."""

import statistics
import time

import grpc

from adaptory.client import AdaptoryClient, RpcFailed
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from examples.demo.opening import Opening, stream_reply

_ONE_TOKEN = GenerationOptions(max_output_tokens=1, temperature=0)


async def time_hot_load(client: AdaptoryClient, version: str, opening: Opening) -> float:
    """Promote `version`; return the seconds from the promotion's return to the first token the version answers with.

    Raises RpcFailed when something else answers.
    """
    bot = version.partition("/versions/")[0]
    await client.bots.promote(version)
    promoted = time.perf_counter()
    await client.chat.wait_until_routed(version)
    asked = time.perf_counter()
    first_token_s, answered_by = await ask_first_token(client, bot, opening)
    if answered_by != version:
        message = f"{bot} was answered by {answered_by} although {version} was promoted; the server's log says why."
        raise RpcFailed(grpc.StatusCode.FAILED_PRECONDITION, message, reason="NOT_HOT_LOADED")
    return asked - promoted + first_token_s


async def time_first_token(client: AdaptoryClient, bot: str, opening: Opening, num_requests: int = 5) -> float:
    """Return the median of the seconds to the first token of requests that come one after the other."""
    asked = [await ask_first_token(client, bot, opening) for _ in range(num_requests)]
    return statistics.median(first_token_s for first_token_s, _ in asked)


async def ask_first_token(client: AdaptoryClient, bot: str, opening: Opening) -> tuple[float, str]:
    """Return the seconds to the first token, and the version that made it."""
    asked, first_token_s, version = time.perf_counter(), 0.0, ""
    async for piece in stream_reply(client, bot, opening, _ONE_TOKEN):
        first_token_s = first_token_s or time.perf_counter() - asked
        version = piece.finish.version or version
    return first_token_s, version
