"""ServeService on the wire: messages in, messages out.

What they mean is `convert.py`'s, how they are answered `chat.py`'s and `completion.py`'s.
"""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from adaptory.core.auth import current_caller
from adaptory.core.errors import Unavailable
from adaptory.serve.v1 import serve_service_pb2, serve_service_pb2_grpc
from serve_svc.adapters.cache import AdapterCache
from serve_svc.chat import Chat
from serve_svc.completion import Completion
from serve_svc.convert import (
    dump_context,
    dump_finish,
    dump_tokens,
    page_bots,
    parse_chat,
    parse_completion,
    parse_count,
)
from serve_svc.deadline import Closing, Deadline
from serve_svc.routing import Router

Context = grpc.aio.ServicerContext[Any, Any]


class ServeServicer(serve_service_pb2_grpc.ServeServiceServicer):
    """Answers tenants."""

    def __init__(
        self,
        chat: Chat,
        completion: Completion,
        router: Router,
        cache: AdapterCache,
        closing: Closing,
        max_tokens: int,
    ) -> None:
        """`max_tokens` is the engine's context, prompt and answer together; answers end with `closing`."""
        self._chat = chat
        self._completion = completion
        self._router = router
        self._cache = cache
        self._closing = closing
        self._max_tokens = max_tokens

    async def Chat(
        self, request: serve_service_pb2.ChatRequest, context: Context
    ) -> AsyncGenerator[serve_service_pb2.ChatResponse, None]:
        """Stream the bot's next turn."""
        call, deadline = parse_chat(request), Deadline(context.time_remaining(), self._closing)
        async with aclosing(self._chat.answer(call, current_caller.get(), deadline)) as pieces:
            async for piece in pieces:
                finish = dump_finish(piece.finish) if piece.finish else None
                tokens = dump_tokens(piece.tokens)
                yield serve_service_pb2.ChatResponse(text=piece.text, finish=finish, tokens=tokens)

    async def ChatUnary(
        self, request: serve_service_pb2.ChatRequest, context: Context
    ) -> serve_service_pb2.ChatUnaryResponse:
        """Return the bot's next turn in one message."""
        answer = serve_service_pb2.ChatUnaryResponse()
        async with aclosing(self.Chat(request, context)) as pieces:
            async for piece in pieces:
                answer.text += piece.text
                answer.finish.MergeFrom(piece.finish)
                answer.tokens.extend(piece.tokens)
        return answer

    async def Complete(
        self, request: serve_service_pb2.CompleteRequest, context: Context
    ) -> AsyncGenerator[serve_service_pb2.CompleteResponse, None]:
        """Stream the code between prefix and suffix."""
        call, deadline = parse_completion(request), Deadline(context.time_remaining(), self._closing)
        async with aclosing(self._completion.complete(call, current_caller.get(), deadline)) as pieces:
            async for piece in pieces:
                yield serve_service_pb2.CompleteResponse(
                    text=piece.text,
                    finish=dump_finish(piece.finish) if piece.finish else None,
                    context=dump_context(piece.context) if piece.context else None,
                    tokens=dump_tokens(piece.tokens),
                )

    async def CompleteUnary(
        self, request: serve_service_pb2.CompleteRequest, context: Context
    ) -> serve_service_pb2.CompleteUnaryResponse:
        """Return the code between prefix and suffix in one message."""
        answer = serve_service_pb2.CompleteUnaryResponse()
        async with aclosing(self.Complete(request, context)) as pieces:
            async for piece in pieces:
                answer.text += piece.text
                answer.finish.MergeFrom(piece.finish)
                answer.context.MergeFrom(piece.context)
                answer.tokens.extend(piece.tokens)
        return answer

    async def ListBots(
        self, request: serve_service_pb2.ListBotsRequest, context: Context
    ) -> serve_service_pb2.ListBotsResponse:
        """List the caller's bots."""
        caller = current_caller.get()
        bots = self._router.table.bots_of(caller.tenant) if caller.tenant else []
        return page_bots(request, bots, await self._resident_names())

    async def CountTokens(
        self, request: serve_service_pb2.CountTokensRequest, context: Context
    ) -> serve_service_pb2.CountTokensResponse:
        """Count the tokens of a prompt."""
        num_tokens = await self._chat.count_tokens(parse_count(request), current_caller.get())
        return serve_service_pb2.CountTokensResponse(num_tokens=num_tokens, max_tokens=self._max_tokens)

    async def _resident_names(self) -> frozenset[str]:
        try:
            return frozenset(adapter.version.name for adapter in await self._cache.residents())
        except Unavailable:
            return frozenset()  # an engine that is being rebuilt holds none
