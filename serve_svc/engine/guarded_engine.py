"""The rules that keep a vLLM engine alive and its tenants apart, over whatever backend makes the raw calls.

Each rule was seen to break an engine or to serve wrong weights when it is not kept. Whether an adapter's content may be served,
when it is loaded, and what happens after a death are left to `adapters/cache.py` and `supervisor.py`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import TypeVar

from adaptory.core.errors import FailedPrecondition, InvalidRequest, Unavailable
from serve_svc.engine.backend import EngineBackend, OutputCorrupted
from serve_svc.engine.engine import (
    AdapterLoadFailed,
    EngineAdapter,
    EngineChunk,
    EngineDead,
    EngineRequest,
    EngineSettings,
)
from serve_svc.engine.prepared_schemas import PreparedSchemas

_Result = TypeVar("_Result")


class GuardedEngine:
    """An Engine; one object lives as long as one engine process."""

    def __init__(self, backend: EngineBackend, settings: EngineSettings) -> None:
        """Take over the backend: nobody else may call it."""
        self._backend = backend
        self._settings = settings
        self._offered: dict[int, EngineAdapter] = {}  # every id this engine ever saw
        self._spent: set[int] = set()  # ids whose load failed
        self._resident: set[int] = set()
        self._in_flight: Counter[int] = Counter()
        self._num_corrupted = 0
        self._stopped = asyncio.Event()
        self._schemas = PreparedSchemas(lambda schema: self._until_stopped(backend.prepare_schema(schema)))

    @property
    def max_loras(self) -> int:
        """Distinct adapters that may run at once."""
        return self._settings.max_loras

    @property
    def max_cpu_loras(self) -> int:
        """Adapters that may be resident at once."""
        return self._settings.max_cpu_loras

    @property
    def max_rank(self) -> int:
        """Highest rank of an adapter."""
        return self._settings.max_lora_rank

    @property
    def max_model_tokens(self) -> int:
        """Prompt and output tokens of one request together."""
        return self._settings.max_model_tokens

    async def start(self) -> None:
        """Build the engine process; raises EngineDead when it does not come up."""
        await self._backend.start()

    async def stop(self) -> None:
        """Kill the engine process; running streams and calls end with EngineDead."""
        self._stopped.set()
        self._resident.clear()
        await self._backend.stop()

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Make the adapter resident.

        Raises:
            AdapterLoadFailed: The engine refuses it, or its id, name or path breaks a rule; its id is spent.
            FailedPrecondition: ENGINE_FULL; the caller unloads another first.
        """
        self._check_identity(adapter)
        if adapter.engine_id in self._resident:
            return
        if len(self._resident) >= self._settings.max_cpu_loras:
            # vLLM would drop the least recently used one unasked and read it from disk in the middle of a step.
            raise FailedPrecondition(
                f"The engine holds {len(self._resident)} adapters, its limit; unload one first.",
                reason="ENGINE_FULL",
                metadata={"max_cpu_loras": self._settings.max_cpu_loras},
            )
        self._offered[adapter.engine_id] = adapter
        self._spent.add(adapter.engine_id)  # a cancelled load goes on in the engine: only a finished one clears the id
        try:
            await self._until_stopped(self._backend.add_lora(adapter))
        except AdapterLoadFailed:
            # A failed add leaves the id registered with another adapter's weights; a second add would answer True.
            with suppress(EngineDead):
                await self._until_stopped(self._backend.remove_lora(adapter.engine_id))
            raise
        self._spent.discard(adapter.engine_id)
        self._resident.add(adapter.engine_id)

    async def unload_adapter(self, engine_id: int) -> None:
        """Forget the adapter; raises FailedPrecondition while a request uses it, since vLLM would load it again."""
        if engine_id not in self._resident:
            return
        if num_in_flight := self._in_flight[engine_id]:
            raise FailedPrecondition(
                f"{num_in_flight} requests still use {self._offered[engine_id].name}; drain them first.",
                reason="ADAPTER_IN_USE",
                metadata={"num_in_flight": num_in_flight},
            )
        self._resident.discard(engine_id)
        await self._until_stopped(self._backend.remove_lora(engine_id))

    async def resident_adapters(self) -> frozenset[int]:
        """Return the ids that requests may name; our own table, since vLLM's also lists failed loads."""
        return frozenset(self._resident)

    async def prepare_schema(self, schema: str) -> None:
        """Return when requests may name this `answer_schema`. Raises SchemaImpossible."""
        await self._schemas.require(schema)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Stream the answer.

        Raises:
            InvalidRequest: The prompt is empty, or too long with the tokens asked for.
            Unavailable: ADAPTER_NOT_RESIDENT; the engine was rebuilt since the lease.
            SchemaImpossible: The answer cannot be kept to its schema.
            OutputCorrupted: The logits held NaN; the text so far must not be trusted either.
        """
        self._check_request(request)
        engine_id = request.adapter.engine_id if request.adapter else 0
        self._in_flight[engine_id] += 1
        try:
            async with aclosing(self._backend.generate(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except OutputCorrupted:
            self._num_corrupted += 1
            raise
        finally:
            self._in_flight[engine_id] -= 1

    async def check(self) -> None:
        """Raise EngineDead when the engine process is gone."""
        if self._stopped.is_set():
            raise _dead()
        await self._backend.check_health()

    def corrupted_requests(self) -> int:
        """Count requests with NaN: those whose stream saw it and those vLLM counted after their client had left."""
        return max(self._num_corrupted, self._backend.corrupted_requests())

    async def _until_stopped(self, call: Coroutine[object, object, _Result]) -> _Result:
        """Await a call that vLLM never answers once its process is gone; ends with EngineDead when the engine is stopped."""
        answer = asyncio.ensure_future(call)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([answer, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise _dead()
            return answer.result()
        finally:
            stopped.cancel()
            answer.cancel()

    def _check_identity(self, adapter: EngineAdapter) -> None:
        engine_id = adapter.engine_id
        if not adapter.path.is_absolute() or not adapter.path.is_dir():
            raise _refused(
                adapter, f"{adapter.path} is no absolute path of a folder, and vLLM would ask the hub for it"
            )
        if engine_id < 1:
            raise _refused(adapter, "ids start at 1")
        if self._offered.get(engine_id, adapter) != adapter:
            raise _refused(
                adapter, f"its id belongs to {self._offered[engine_id].name}, whose weights vLLM would serve"
            )
        if any(other.name == adapter.name for key, other in self._offered.items() if key != engine_id):
            raise _refused(adapter, "another id has this name, and vLLM dies when both are in one batch")
        if engine_id in self._spent:
            raise _refused(
                adapter, "its load failed before, and vLLM would answer a retry with the weights left in the slot"
            )

    def _check_request(self, request: EngineRequest) -> None:
        num_tokens = len(request.prompt_ids) + request.sampling.max_tokens
        if not request.prompt_ids or num_tokens > self._settings.max_model_tokens:
            raise InvalidRequest.of_field(
                "prompt",
                f"has {len(request.prompt_ids)} tokens; with max_tokens {request.sampling.max_tokens} it must have at least 1 and "
                f"at most {self._settings.max_model_tokens} in all: shorten it, or lower max_tokens.",
                num_prompt_tokens=len(request.prompt_ids),
                max_tokens=request.sampling.max_tokens,
                max_model_tokens=self._settings.max_model_tokens,
            )
        if not request.cache_salt:
            # Without a salt one tenant could time whether another's prompt is cached.
            raise ValueError("cache_salt is empty; derive it from the verified tenant")
        if request.adapter and request.adapter.engine_id not in self._resident:
            raise Unavailable(
                f"{request.adapter.name} is not loaded: the engine was rebuilt; retry in 1 s.",
                reason="ADAPTER_NOT_RESIDENT",
                metadata={"adapter": request.adapter.name},
                retry_after_s=1.0,
            )


def _refused(adapter: EngineAdapter, why: str) -> AdapterLoadFailed:
    return AdapterLoadFailed(
        f"{adapter.name} (engine id {adapter.engine_id}) was not loaded: {why}; register the adapter as a new version.",
        metadata={"adapter": adapter.name, "engine_id": adapter.engine_id},
    )


def _dead() -> EngineDead:
    return EngineDead("The engine has stopped; a new one is being built, retry in 30 s.", retry_after_s=30.0)
