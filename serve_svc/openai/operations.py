"""What each route does for a caller who was let in: read, have it answered by the same classes as over gRPC, and say the answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from adaptory.core.auth import Caller, not_found
from adaptory.core.edge import CallRecord
from adaptory.core.fim import FimContext
from serve_svc.chat import Chat, Piece
from serve_svc.completion import Completion, CompletionPiece
from serve_svc.deadline import Closing, Deadline
from serve_svc.openai.dump import ChatReply, CompletionReply, Json, Reply, dump_bot
from serve_svc.openai.exchange import Exchange
from serve_svc.openai.parse import Form, read_chat, read_completion
from serve_svc.routing import RoutedBot, Router

# Reading a longer body takes milliseconds, which would hold up every other stream.
_MAX_INLINE_BYTES = 32_768
# Any other reason tells of a cut, and the error that follows it is what is said.
_WHOLE = ("stop", "length")

_Call = TypeVar("_Call")
_Pieces = AsyncGenerator[Piece, None] | AsyncGenerator[CompletionPiece, None]


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers tenants, over whatever protocol; answers end with `closing`."""

    chat: Chat
    completion: Completion
    router: Router
    closing: Closing


class Operations:
    """One method for each route; each raises ServiceError, before its response begins or amid its stream."""

    def __init__(self, answering: Answering) -> None:
        """Answer as gRPC does."""
        self._answering = answering

    async def list_models(self, exchange: Exchange, caller: Caller, record: CallRecord) -> None:
        """List the caller's bots."""
        await exchange.send_object({"object": "list", "data": [dump_bot(bot) for bot in self._bots_of(caller)]})
        record.sent_message()

    async def get_model(self, exchange: Exchange, caller: Caller, record: CallRecord) -> None:
        """Tell of one bot, by its id or its name. Raises NotFound."""
        model = exchange.request.path_params["model"]
        bot = next((bot for bot in self._bots_of(caller) if model in (bot.name.bot, str(bot.name))), None)
        if bot is None:
            raise not_found(model)
        await exchange.send_object(dump_bot(bot))
        record.sent_message()

    async def chat(self, exchange: Exchange, caller: Caller, record: CallRecord) -> None:
        """Say the bot's next turn."""
        call, form = await _read(exchange, read_chat, caller)
        pieces = self._answering.chat.answer(call, caller, self._deadline(exchange))
        async with exchange.while_connected(), aclosing(pieces):
            await _tell(exchange, pieces, ChatReply(form), form, record)

    async def complete(self, exchange: Exchange, caller: Caller, record: CallRecord) -> None:
        """Say the code between prompt and suffix."""
        call, form = await _read(exchange, read_completion, caller)
        pieces = self._answering.completion.complete(call, caller, self._deadline(exchange))
        async with exchange.while_connected(), aclosing(pieces):
            await _tell(exchange, pieces, CompletionReply(form), form, record)

    def _bots_of(self, caller: Caller) -> list[RoutedBot]:
        return self._answering.router.table.bots_of(_tenant_of(caller))

    def _deadline(self, exchange: Exchange) -> Deadline:
        return Deadline(exchange.read_timeout(), self._answering.closing)


async def _read(
    exchange: Exchange, read: Callable[[bytes, str], tuple[_Call, Form]], caller: Caller
) -> tuple[_Call, Form]:
    raw = await exchange.read_body()
    if len(raw) <= _MAX_INLINE_BYTES:
        return read(raw, _tenant_of(caller))
    return await asyncio.to_thread(read, raw, _tenant_of(caller))


def _tenant_of(caller: Caller) -> str:
    return caller.tenant or ""  # no key but a tenant's comes this far


async def _tell(exchange: Exchange, pieces: _Pieces, reply: Reply, form: Form, record: CallRecord) -> None:
    if not form.streams:
        await exchange.send_object(await _gather(pieces, reply))
        record.sent_message()
        return
    events = reply.begin()
    async for piece in pieces:
        for event in (*events, *_say(piece, reply)):
            await exchange.send_event(event)
            record.sent_message()
        events = iter(())
    await exchange.end_events()


async def _gather(pieces: _Pieces, reply: Reply) -> Json:
    texts = []
    last: Piece | CompletionPiece | None = None
    async for last in pieces:
        texts.append(last.text)
    if last is None or last.finish is None:
        raise ValueError("the answer ended without its Finish")
    return reply.whole("".join(texts), last.finish, _context_of(last))


def _say(piece: Piece | CompletionPiece, reply: Reply) -> Iterator[Json]:
    if piece.text:
        yield reply.go_on(piece.text)
    if piece.finish and piece.finish.reason in _WHOLE:
        yield from reply.end(piece.finish, _context_of(piece))


def _context_of(piece: Piece | CompletionPiece) -> FimContext | None:
    return piece.context if isinstance(piece, CompletionPiece) else None
