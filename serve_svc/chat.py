"""The story of one request: route, render, admit, lease, generate, and give everything back however it ends.

Every part of it is another file's; the order, and what a caller is told when a part fails, are this one's.
"""

import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

from adaptory.core.auth import Caller
from adaptory.core.errors import Corrupted, FailedPrecondition, NotFound, Unavailable
from adaptory.core.names import BotName, VersionName
from adaptory.core.prompting import Message
from serve_svc.adapters import AdapterCache
from serve_svc.admission import Admission
from serve_svc.deadline import Deadline
from serve_svc.engine.engine import Engine, EngineAdapter, EngineChunk, EngineDead, EngineRequest
from serve_svc.metrics import RequestMetrics, RequestRecord
from serve_svc.prompts import ChatOptions, Prompts
from serve_svc.routing import Route, Router
from serve_svc.tenancy import Intake

# The ways in which an adapter does not come: its bytes, its place, its source. Not the caller's doing, and not the queue's.
_LOAD_FAILURES = (FailedPrecondition, Corrupted, NotFound, Unavailable)
_RETRY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A conversation for a bot or one of its versions to go on with."""

    name: BotName | VersionName
    messages: tuple[Message, ...]
    options: ChatOptions


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended; `digest` is empty for the bare base."""

    reason: Literal["stop", "length"]
    version: VersionName
    digest: str
    num_prompt_tokens: int
    num_output_tokens: int
    time_to_first_token_s: float


@dataclass(frozen=True, slots=True)
class Piece:
    """The text that came next; the last piece alone has a `finish`."""

    text: str
    finish: Finish | None


@dataclass(frozen=True, slots=True)
class Line:
    """What stands between a request and its answer, in this order."""

    intake: Intake
    admission: Admission
    cache: AdapterCache
    engine: Engine


class Chat:
    """Answers conversations."""

    def __init__(
        self, router: Router, prompts: Prompts, line: Line, metrics: RequestMetrics, salt_secret: bytes
    ) -> None:
        """`salt_secret` keeps tenants from telling by its speed what another's prompts were: cached prompts are shared within one."""
        self._router = router
        self._prompts = prompts
        self._line = line
        self._metrics = metrics
        self._salt_secret = salt_secret

    async def answer(self, call: ChatCall, caller: Caller, deadline: Deadline) -> AsyncGenerator[Piece, None]:
        """Stream the bot's next turn; the version it begins with answers to its end.

        Raises:
            NotFound, FailedPrecondition: As Router.route, and as AdapterCache.lease when no former version can stand in.
            InvalidRequest: The context cannot hold prompt and answer.
            Busy: The tenant's limit or the queue is full.
            Unavailable: ENGINE_RESTARTING with the tokens delivered so far, or as AdapterCache.lease.
            DeadlineExceeded: It passed, in the queue or amid the answer.
        """
        arrived_s = time.monotonic()
        route = self._router.route(call.name, caller)
        with self._metrics.observe(route.bot) as record, self._hold_place(route), _engine_death_told(record):
            async with AsyncExitStack() as held:
                route, request = await deadline.bound(self._open(held, route, call))
                chunks = await held.enter_async_context(aclosing(self._line.engine.generate(request)))
                async with aclosing(deadline.bound_each(chunks)) as timely_chunks:
                    async for chunk in timely_chunks:
                        record.heard(chunk, time.monotonic() - arrived_s)
                        if chunk.text or chunk.finish_reason:
                            yield Piece(chunk.text, _finish(route, chunk, record))

    async def count_tokens(self, call: ChatCall, caller: Caller) -> int:
        """Return the tokens of the prompt that `answer` would make. Raises what Router.route raises."""
        route = self._router.route(call.name, caller)
        return len(await self._prompts.render(route.system_prompt, call.messages))

    def _hold_place(self, route: Route) -> AbstractContextManager[None]:
        return self._line.intake.hold_place(route.tenant.name.tenant, route.tenant.max_requests_in_flight)

    async def _open(self, held: AsyncExitStack, route: Route, call: ChatCall) -> tuple[Route, EngineRequest]:
        """Return who answers what, with its place and its adapter in `held`; the former version stands in for one that fails."""
        try:
            return route, await self._open_route(held, route, call)
        except _LOAD_FAILURES as error:
            if route.former is None or isinstance(error, EngineDead):
                raise
            self._metrics.former_version_answers()
            return route.former, await self._open_route(held, route.former, call)

    async def _open_route(self, held: AsyncExitStack, route: Route, call: ChatCall) -> EngineRequest:
        prompt_ids = await self._prompts.render(route.system_prompt, call.messages)
        sampling = self._prompts.fit(call.options, route.bot.defaults, len(prompt_ids))
        adapter = await held.enter_async_context(self._hold_adapter(route))
        return EngineRequest(uuid.uuid4().hex, prompt_ids, sampling, adapter, self._salt(route))

    @asynccontextmanager
    async def _hold_adapter(self, route: Route) -> AsyncIterator[EngineAdapter | None]:
        """Hold a place in the engine, then the adapter: whoever waits for a place must not keep an adapter from leaving."""
        queued_s = time.monotonic()
        version = route.adapter
        async with self._line.admission.admit(route.bot.name.tenant, version.engine_id if version else None):
            self._metrics.queued(time.monotonic() - queued_s)
            if version is None:
                yield None
                return
            async with self._line.cache.lease(version) as adapter:
                yield adapter

    def _salt(self, route: Route) -> str:
        return hmac.new(self._salt_secret, route.bot.name.tenant.encode(), hashlib.sha256).hexdigest()


def _finish(route: Route, chunk: EngineChunk, record: RequestRecord) -> Finish | None:
    if chunk.finish_reason is None:
        return None
    return Finish(
        reason=chunk.finish_reason,
        version=route.name,
        digest=route.adapter.digest if route.adapter else "",
        num_prompt_tokens=chunk.num_prompt_tokens,
        num_output_tokens=chunk.num_output_tokens,
        time_to_first_token_s=record.time_to_first_token_s,
    )


@contextmanager
def _engine_death_told(record: RequestRecord) -> Iterator[None]:
    """Tell the caller of a dead engine how far its answer came: it may ask again, and gets another answer from the start."""
    try:
        yield
    except EngineDead as error:
        retry_after_s = error.retry_after_s or _RETRY_AFTER_S
        raise Unavailable(
            f"The engine is being restarted; this answer ended after {record.num_output_tokens} tokens. "
            f"Ask again in {retry_after_s:.0f} s.",
            reason="ENGINE_RESTARTING",
            metadata={"num_output_tokens": record.num_output_tokens, "cause": error.reason},
            retry_after_s=retry_after_s,
        ) from error
