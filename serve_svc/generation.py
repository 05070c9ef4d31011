"""What every answer has in common: admit, lease, generate, and give everything back however it ends.

Every part of it is another file's; the order, and what a caller is told when a part fails, are this one's. What the prompt is, and
what becomes of the text, is the asker's: `chat.py` or `completion.py`.
"""

import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

from adaptory.core.errors import Corrupted, DeadlineExceeded, FailedPrecondition, NotFound, ServiceError, Unavailable
from adaptory.core.names import VersionName
from serve_svc.adapters.cache import AdapterCache
from serve_svc.canary_watch import CanaryWatch
from serve_svc.deadline import Deadline, ShutDown
from serve_svc.engine.engine import Engine, EngineAdapter, EngineDead, EngineRequest, GeneratedToken, Sampling
from serve_svc.metrics import RequestMetrics, RequestRecord
from serve_svc.queue.admission import Admission
from serve_svc.queue.ask import Ask, Urgency
from serve_svc.queue.places import Place
from serve_svc.routing import BotKind, Lane, Route
from serve_svc.tenancy import Intake
from serve_svc.usage.meter import UsageMeter
from serve_svc.usage.quota import Quotas

# The ways in which an adapter does not come: its bytes, its place, its source. Not the caller's doing, and not the queue's.
_LOAD_FAILURES = (FailedPrecondition, Corrupted, NotFound, Unavailable)
_RETRY_AFTER_S = 10.0

FinishReason = Literal["stop", "length", "deadline", "shutdown", "engine_restarted"]
"""How an answer ended: by itself, or at its longest; or cut, after which the stream fails with the reason's own error."""

_CUTS: dict[type[ServiceError], FinishReason] = {
    DeadlineExceeded: "deadline",
    ShutDown: "shutdown",
    EngineDead: "engine_restarted",
}


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended; `digest` is empty for the bare base."""

    reason: FinishReason
    version: VersionName
    digest: str
    num_prompt_tokens: int
    num_output_tokens: int
    time_to_first_token_s: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine is asked."""

    ids: tuple[int, ...]
    sampling: Sampling


MakePrompt = Callable[[Route], Awaitable[Prompt]]
"""Makes the prompt for whoever answers; called again when a former version stands in."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine said next. The last step alone has a `reason`; whoever stops before it asks `end` for the Finish.

    The text of `tokens`, where they are told, may come with a later step.
    """

    text: str
    reason: FinishReason | None
    tokens: tuple[GeneratedToken, ...]
    end: Callable[[FinishReason], Finish]


@dataclass(frozen=True, slots=True)
class Line:
    """What stands between a request and its answer, in this order."""

    intake: Intake
    admission: Admission
    cache: AdapterCache
    engine: Engine
    quotas: Quotas


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who hears of every request: the operator's metrics, who compares canaries with production, who counts what tenants use."""

    metrics: RequestMetrics
    canaries: CanaryWatch
    usage: UsageMeter


class Generation:
    """Generates for one route at a time."""

    def __init__(self, line: Line, watchers: Watchers, salt_secret: bytes) -> None:
        """`salt_secret` keeps tenants from telling by its speed what another's prompts were.

        Cached prompts are shared within one tenant, and only as long as its keys stay: once a key is revoked, new ones find nothing.
        """
        self._line = line
        self._metrics = watchers.metrics
        self._canaries = watchers.canaries
        self._usage = watchers.usage
        self._salt_secret = salt_secret

    async def run(self, route: Route, make_prompt: MakePrompt, deadline: Deadline) -> AsyncGenerator[Step, None]:
        """Stream what the version of `route` says to its end; closing the stream stops the engine's work.

        An answer that is cut once it has begun has a last step that says so, and then raises.

        Raises:
            FailedPrecondition, NotFound: As AdapterCache.lease when no former version can stand in.
            Busy: A limit of the tenant is reached, or as Admission.admit; a shadow also when somebody waits for its place.
            InvalidRequest: Prompt or answer would be longer than the tenant's may be.
            SchemaImpossible: The engine cannot keep the answer to the bot's schema.
            Unavailable: ENGINE_RESTARTING with the tokens delivered so far, or as AdapterCache.lease.
            DeadlineExceeded: It passed, in the queue or amid the answer.
            ShutDown: The server's time for running requests passed, with the tokens delivered so far.
            ServiceError: Whatever `make_prompt` raises.
        """
        arrived_s = time.monotonic()
        with (
            self._metrics.observe(route) as record,
            self._usage.observe(route, record) as usage,
            self._hold_place(route),
            _cut_told(record),
        ):
            async with AsyncExitStack() as held:
                held.enter_context(self._canaries.observe(route, record))
                asked = route
                route, request, place = await deadline.bound(self._open(held, route, make_prompt, deadline))
                record.former_answers = route is not asked
                usage.begins(route, len(request.prompt_ids))
                end = _finisher(route, record)
                chunks = await held.enter_async_context(aclosing(self._line.engine.generate(request)))
                tokens: tuple[GeneratedToken, ...] = ()
                try:
                    async with aclosing(deadline.bound_each(chunks)) as timely_chunks:
                        async for chunk in timely_chunks:
                            record.heard(chunk, time.monotonic() - arrived_s)
                            usage.heard(chunk)
                            self._line.admission.heard(place, chunk.num_output_tokens)
                            tokens += chunk.tokens
                            if chunk.text or chunk.finish_reason:
                                yield Step(chunk.text, chunk.finish_reason, tokens, end)
                                tokens = ()
                except tuple(_CUTS) as error:
                    self._line.cache.suspect(error)  # whoever hears the last step may leave before the error is raised
                    if record.num_output_tokens:
                        yield Step("", _find_cut(error), tokens, end)
                    raise

    @contextmanager
    def _hold_place(self, route: Route) -> Iterator[None]:
        if route.lane is Lane.SHADOW:
            yield  # no tenant asked for it, and no stop waits for it
            return
        tenant = route.tenant
        with self._line.intake.hold_place(tenant.name.tenant, tenant.max_requests_in_flight):
            self._line.quotas.admit(tenant.name.tenant, tenant.quota)
            yield

    async def _open(
        self, held: AsyncExitStack, route: Route, make_prompt: MakePrompt, deadline: Deadline
    ) -> tuple[Route, EngineRequest, Place]:
        """Return who answers what, with its place and its adapter in `held`; the former version stands in for one that fails."""
        try:
            return route, *await self._open_route(held, route, make_prompt, deadline)
        except _LOAD_FAILURES as error:
            if route.former is None or isinstance(error, EngineDead):
                raise
            self._metrics.former_version_answers()
            return route.former, *await self._open_route(held, route.former, make_prompt, deadline)

    async def _open_route(
        self, held: AsyncExitStack, route: Route, make_prompt: MakePrompt, deadline: Deadline
    ) -> tuple[EngineRequest, Place]:
        if route.adapter:
            self._line.cache.check(route.adapter)  # what is refused anyway does not wait for a place first
        prompt = await make_prompt(route)
        route.tenant.quota.require_fit(len(prompt.ids), prompt.sampling.max_tokens)
        if schema := prompt.sampling.answer_schema:
            await self._line.engine.prepare_schema(schema)
        adapter, place = await held.enter_async_context(self._hold_adapter(route, _ask(route, prompt, deadline)))
        return EngineRequest(uuid.uuid4().hex, prompt.ids, prompt.sampling, adapter, self._salt(route)), place

    @asynccontextmanager
    async def _hold_adapter(self, route: Route, ask: Ask) -> AsyncIterator[tuple[EngineAdapter | None, Place]]:
        """Hold a place in the engine, then the adapter: whoever waits for a place must not keep an adapter from leaving."""
        async with self._line.admission.admit(ask) as place:
            if route.adapter is None:
                yield None, place
                return
            async with self._line.cache.lease(route.adapter) as adapter:
                yield adapter, place

    def _salt(self, route: Route) -> str:
        owner = " ".join((route.bot.name.tenant, *sorted(route.tenant.key_digests)))
        return hmac.new(self._salt_secret, owner.encode(), hashlib.sha256).hexdigest()


def _ask(route: Route, prompt: Prompt, deadline: Deadline) -> Ask:
    return Ask(
        tenant=route.bot.name.tenant,
        engine_id=route.adapter.engine_id if route.adapter else None,
        urgency=_urgency_of(route),
        num_prompt_tokens=len(prompt.ids),
        max_output_tokens=prompt.sampling.max_tokens,
        left_s=deadline.left_s,
    )


def _urgency_of(route: Route) -> Urgency:
    if route.lane is Lane.SHADOW:
        return Urgency.SHADOW
    return Urgency.INTERACTIVE if route.bot.kind is BotKind.CODE_COMPLETION else Urgency.CHAT


def _finisher(route: Route, record: RequestRecord) -> Callable[[FinishReason], Finish]:
    def end(reason: FinishReason) -> Finish:
        if reason in ("stop", "length"):
            record.ended()
        return Finish(
            reason=reason,
            version=route.name,
            digest=route.adapter.digest if route.adapter else "",
            num_prompt_tokens=record.num_prompt_tokens,
            num_output_tokens=record.num_output_tokens,
            time_to_first_token_s=record.time_to_first_token_s,
        )

    return end


def _find_cut(error: ServiceError) -> FinishReason:
    return next(reason for kind, reason in _CUTS.items() if isinstance(error, kind))


@contextmanager
def _cut_told(record: RequestRecord) -> Iterator[None]:
    """Tell a caller whose answer is cut how far it came: it may ask again, and gets another answer from the start."""
    try:
        yield
    except ShutDown as error:
        raise ShutDown(
            f"The server is shutting down; this answer ended after {record.num_output_tokens} tokens. Ask again, of another server.",
            reason=error.reason,
            metadata={"num_output_tokens": record.num_output_tokens},
            retry_after_s=_RETRY_AFTER_S,
        ) from error
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            f"{error.message} The answer ended after {record.num_output_tokens} tokens.",
            metadata={"num_output_tokens": record.num_output_tokens},
        ) from error
    except EngineDead as error:
        retry_after_s = error.retry_after_s or _RETRY_AFTER_S
        raise Unavailable(
            f"The engine is being restarted; this answer ended after {record.num_output_tokens} tokens. "
            f"Ask again in {retry_after_s:.0f} s.",
            reason="ENGINE_RESTARTING",
            metadata={"num_output_tokens": record.num_output_tokens, "cause": error.reason},
            retry_after_s=retry_after_s,
        ) from error
