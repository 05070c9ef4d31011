"""The one server interceptor: errors outermost, then metrics, then the caller. Servicers raise; only this file aborts.

grpc.aio sends the text of an uncaught exception to the client, so everything that is not a ServiceError is made one, by `edge.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from adaptory.core.auth import Keyring, Role, current_caller
from adaptory.core.edge import CallRecord, admit_caller, handle_call
from adaptory.core.errors import CallerLeft, DeadlineExceeded, ServiceError, SlowCaller

ERROR_DOMAIN = "adaptory"
# Probed by load balancers and operators' tools that hold no key.
_OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")

if TYPE_CHECKING:
    # Generic in the stubs only.
    Context = grpc.aio.ServicerContext[Any, Any]


class CallMetrics(Protocol):
    """Counts calls; `telemetry.GrpcMetrics` is the real one."""

    def observe(self, method: str, *, streams: bool) -> AbstractContextManager[CallRecord]:
        """Count a call as started, and as handled when the block ends."""


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps every unary and server-streaming method; the contract has no client streams."""

    def __init__(
        self, *, keyring: Keyring, access: Mapping[str, frozenset[Role]], metrics: CallMetrics, max_write_s: float
    ) -> None:
        """Take who is who, who may what (by full method name, `/package.Service/Method`), and where calls are counted.

        A caller that lets a message of a stream wait for longer than `max_write_s` loses the stream.
        """
        self._keyring = keyring
        self._access = access
        self._metrics = metrics
        self._max_write_s = max_write_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[grpc.RpcMethodHandler[Any, Any] | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the method's handler, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.lstrip("/").split("/")[0] in _OPEN_SERVICES:
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(cast("Callable[..., Any]", handler.unary_stream), method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._wrap_unary(cast("Callable[..., Any]", handler.unary_unary), method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrap_unary(self, behavior: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def call(request: Message, context: "Context") -> Message:
            try:
                with handle_call(method, self._metrics.observe(method, streams=False)) as record:
                    await self._admit(method, context)
                    response: Message = await behavior(request, context)
                    record.sent_message()
                    return response
            except ServiceError as error:
                await _abort(error, context)

        return call

    def _wrap_stream(self, behavior: Callable[..., Any], method: str) -> Callable[..., Any]:
        # Writes by itself: gRPC would write what a generator yields, and no time can be laid on that.
        async def call(request: Message, context: "Context") -> None:
            try:
                with handle_call(method, self._metrics.observe(method, streams=True)) as record:
                    await self._admit(method, context)
                    async with aclosing(behavior(request, context)) as responses:
                        async for response in responses:
                            await self._write(response, context)
                            record.sent_message()
            except ServiceError as error:
                await _abort(error, context)

        return call

    async def _write(self, response: Message, context: "Context") -> None:
        """Send one message of a stream; it waits only once the connection's buffers are full of what the caller has not read."""
        try:
            async with asyncio.timeout(self._max_write_s):
                await context.write(response)
        except TimeoutError as error:
            message = (
                f"You have not read this stream for {self._max_write_s:g} s, and a server waits no longer. "
                "Read messages as they come, and ask again."
            )
            raise SlowCaller(message, metadata={"max_write_seconds": f"{self._max_write_s:g}"}) from error
        except grpc.aio.InternalError as error:
            raise CallerLeft("The caller left amid a message.") from error

    async def _admit(self, method: str, context: "Context") -> None:
        metadata = {key: value for key, value in context.invocation_metadata() or ()}  # noqa: C416 - pairs, not a mapping
        current_caller.set(await admit_caller(method, metadata, self._keyring, self._access))
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:
            message = "The call's deadline passed before it began; nothing was started. Give it more time."
            raise DeadlineExceeded(message)


async def _abort(error: ServiceError, context: "Context") -> NoReturn:
    if isinstance(error, CallerLeft):
        raise asyncio.CancelledError from error  # gRPC knows, and takes no status any more
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise asyncio.CancelledError  # abort always raises; this line tells the type checker


def to_status(error: ServiceError) -> status_pb2.Status:
    """Return the error as `google.rpc.Status`: one ErrorInfo, a BadRequest for fields, a RetryInfo where a retry may help."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
    ]
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(1, round(error.retry_after_s * 1000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for box, detail in zip(packed, details, strict=True):
        box.Pack(detail)
    code = code_pb2.Code.Value(error.status.name)
    return status_pb2.Status(code=code, message=error.message, details=packed)
