"""Answers that come piece by piece: only one whose last piece says how it ended is whole."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from adaptory.client.connection import Connection
from adaptory.client.errors import RpcFailed

Piece = TypeVar("Piece", bound=Message)


async def stream_answer(
    connection: Connection,
    method: "Callable[..., grpc.aio.UnaryStreamCall[Any, Piece]]",
    request: Message,
    *,
    deadline_s: float,
) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of an answer. Raises RpcFailed, with ANSWER_INCOMPLETE where the stream ends without a `finish`."""
    finished = False
    async with aclosing(connection.stream(method, request, deadline_s=deadline_s)) as pieces:
        async for piece in pieces:
            finished = finished or piece.HasField("finish")
            yield piece
    if not finished:
        message = f"{connection.address} ended the answer before it was finished. Ask again."
        raise RpcFailed(grpc.StatusCode.UNAVAILABLE, message, reason="ANSWER_INCOMPLETE")
