"""The routes of OpenAI's interface, and the way in: every request is let in, counted and told its failure as over gRPC."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from adaptory.core.auth import Caller, Keyring, Role
from adaptory.core.edge import CallRecord, admit_caller, handle_call
from adaptory.core.errors import NotFound, ServiceError, Unavailable
from adaptory.core.telemetry import HttpMetrics
from serve_svc.openai.errors import dump_error, find_status, make_headers
from serve_svc.openai.exchange import Exchange
from serve_svc.openai.operations import Answering, Operations

_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Door:
    """Who is who, who may what (by `METHOD PATH`), and where requests are counted."""

    keyring: Keyring
    access: Mapping[str, frozenset[Role]]
    metrics: HttpMetrics


def make_app(answering: Answering, door: Door, is_serving: Callable[[], bool]) -> Starlette:
    """Return the application. Anybody may ask `/health` whether requests are answered now, as the health service over gRPC."""
    operations = Operations(answering)

    async def tell_health(request: Request) -> Response:  # noqa: ARG001 - the signature is Starlette's
        if is_serving():
            return JSONResponse({"status": "SERVING"})
        message = f"This server does not answer now; ask another one, or ask again in {_RETRY_AFTER_S:.0f} s."
        error = Unavailable(message, reason="NOT_SERVING", retry_after_s=_RETRY_AFTER_S)
        return JSONResponse(dump_error(error), find_status(error), make_headers(error))

    routes = [
        Route("/health", tell_health),
        _route("GET", "/v1/models", door, operations.list_models),
        _route("GET", "/v1/models/{model:path}", door, operations.get_model),
        _route("POST", "/v1/chat/completions", door, operations.chat),
        _route("POST", "/v1/completions", door, operations.complete),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _tell_no_route})


_Operate = Callable[[Exchange, Caller, CallRecord], Awaitable[None]]


class _Entrance:
    """One route as an ASGI application: lets the caller in, and tells what failed."""

    def __init__(self, name: str, door: Door, operate: _Operate) -> None:
        self._name = name
        self._door = door
        self._operate = operate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, door = Exchange(scope, receive, send), self._door
        try:
            with handle_call(self._name, door.metrics.observe(self._name)) as record:
                caller = await admit_caller(self._name, exchange.request.headers, door.keyring, door.access)
                await self._operate(exchange, caller, record)
        except ServiceError as error:
            await exchange.fail(error)


def _route(method: str, path: str, door: Door, operate: _Operate) -> Route:
    return Route(path, _Entrance(f"{method} {path}", door, operate), methods=[method])


def _tell_no_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path} is not served here; the base URL ends with /v1."
    return JSONResponse(dump_error(NotFound(message, reason="NO_SUCH_ROUTE")), error.status_code, headers=error.headers)
