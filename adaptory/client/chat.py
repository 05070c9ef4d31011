"""Talking to bots."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import grpc

from adaptory.client.answer import stream_answer
from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.client.errors import RpcFailed
from adaptory.client.pages import walk_pages
from adaptory.client.readiness import wait_until_serving
from adaptory.serve.v1 import serve_service_pb2 as pb
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.serve.v1.serve_service_pb2_grpc import ServeServiceStub

# Seconds a promotion may take to reach a server that follows, and how often it is asked meanwhile.
_ROUTING_S = 10.0
_ROUTING_POLL_S = 0.005

Conversation = str | Sequence[pb.ChatMessage]
"""A question, or turns that alternate, of which the last is the user's."""


class Chat:
    """The methods of ServeService. Every method raises RpcFailed.

    A bot is named `tenants/{tenant}/bots/{bot}`; with `/versions/{n}` behind it that version answers, 0 being the base alone. Where
    the bot has a canary, one of two versions answers all requests of a `conversation_key`, or of one first message.
    """

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to serve_svc."""
        self._connection = connection
        self._serve = ServeServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def ask(
        self,
        bot: str,
        conversation: Conversation,
        *,
        options: GenerationOptions | None = None,
        conversation_key: str = "",
        deadline_s: float = LONG_DEADLINE_S,
    ) -> pb.ChatUnaryResponse:
        """Return the bot's next turn as a whole."""
        request = pb.ChatRequest(
            name=bot, messages=_turns(conversation), options=options, conversation_key=conversation_key
        )
        return await self._connection.call(self._serve.ChatUnary, request, deadline_s=deadline_s)

    def stream(
        self,
        bot: str,
        conversation: Conversation,
        *,
        options: GenerationOptions | None = None,
        conversation_key: str = "",
        deadline_s: float = LONG_DEADLINE_S,
    ) -> AsyncGenerator[pb.ChatResponse, None]:
        """Yield the bot's next turn as it is made; the last piece has `finish`, and a stream that ends without one raises."""
        request = pb.ChatRequest(
            name=bot, messages=_turns(conversation), options=options, conversation_key=conversation_key
        )
        return stream_answer(self._connection, self._serve.Chat, request, deadline_s=deadline_s)

    async def list_bots(self) -> AsyncIterator[pb.ServedBot]:
        """Yield the caller's bots by name, with the version of each that answers."""

        async def fetch(token: str) -> pb.ListBotsResponse:
            return await self._connection.call(self._serve.ListBots, pb.ListBotsRequest(page_token=token))

        async for bot in walk_pages(fetch, lambda page: page.bots):
            yield bot

    async def count_tokens(self, bot: str, conversation: Conversation) -> pb.CountTokensResponse:
        """Return how many tokens the conversation takes and how many the engine holds."""
        request = pb.CountTokensRequest(name=bot, messages=_turns(conversation))
        return await self._connection.call(self._serve.CountTokens, request)

    async def wait_until_ready(self, *, deadline_s: float) -> None:
        """Return when serve_svc serves; its engine takes some time to start."""
        await wait_until_serving(self._connection, "adaptory.serve.v1.ServeService", deadline_s=deadline_s)

    async def wait_until_routed(self, version: str, *, deadline_s: float = _ROUTING_S) -> None:
        """Return when `version` answers for its bot: a server hears of a promotion a moment after PromoteVersion has returned.

        Raises RpcFailed (DEADLINE_EXCEEDED) when it does not in time.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while version not in [bot.version async for bot in self.list_bots()]:  # noqa: ASYNC110 - another process routes
                    await asyncio.sleep(_ROUTING_POLL_S)
        except TimeoutError as error:
            message = (
                f"{self._connection.address} does not answer with {version} after {deadline_s:g} s. "
                "Is it the version that was promoted, and does the server follow the trainer?"
            )
            raise RpcFailed(grpc.StatusCode.DEADLINE_EXCEEDED, message, reason="NOT_ROUTED") from error


def user(content: str) -> pb.ChatMessage:
    """Return a turn of the user."""
    return pb.ChatMessage(role=pb.ChatMessage.ROLE_USER, content=content)


def assistant(content: str) -> pb.ChatMessage:
    """Return a turn of the bot."""
    return pb.ChatMessage(role=pb.ChatMessage.ROLE_ASSISTANT, content=content)


def _turns(conversation: Conversation) -> Sequence[pb.ChatMessage]:
    return [user(conversation)] if isinstance(conversation, str) else conversation
