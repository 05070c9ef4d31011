"""Having bots complete code."""

from collections.abc import AsyncGenerator

from adaptory.client.answer import stream_answer
from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.serve.v1 import serve_service_pb2 as pb
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.serve.v1.serve_service_pb2_grpc import ServeServiceStub

StopAt = pb.CompleteRequest.StopAt


class Completion:
    """The methods of ServeService for code. Every method raises RpcFailed.

    A bot is named as for a chat, whose `conversation_key` counts here too, and is of kind CODE_COMPLETION; `prefix` and `suffix` are
    the code around the cursor.
    """

    def __init__(self, connection: Connection) -> None:
        """Call over `connection`, to serve_svc."""
        self._connection = connection
        self._serve = ServeServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated

    async def fill(
        self,
        bot: str,
        prefix: str,
        suffix: str = "",
        *,
        stop_at: StopAt = pb.CompleteRequest.STOP_AT_LINE,
        options: GenerationOptions | None = None,
        conversation_key: str = "",
        deadline_s: float = LONG_DEADLINE_S,
    ) -> pb.CompleteUnaryResponse:
        """Return the code between prefix and suffix as a whole."""
        request = pb.CompleteRequest(
            name=bot, prefix=prefix, suffix=suffix, stop_at=stop_at, options=options, conversation_key=conversation_key
        )
        return await self._connection.call(self._serve.CompleteUnary, request, deadline_s=deadline_s)

    def stream(
        self,
        bot: str,
        prefix: str,
        suffix: str = "",
        *,
        stop_at: StopAt = pb.CompleteRequest.STOP_AT_LINE,
        options: GenerationOptions | None = None,
        conversation_key: str = "",
        deadline_s: float = LONG_DEADLINE_S,
    ) -> AsyncGenerator[pb.CompleteResponse, None]:
        """Yield the code as it is made; the last piece has `finish` and `context`, and a stream that ends without them raises."""
        request = pb.CompleteRequest(
            name=bot, prefix=prefix, suffix=suffix, stop_at=stop_at, options=options, conversation_key=conversation_key
        )
        return stream_answer(self._connection, self._serve.Complete, request, deadline_s=deadline_s)
