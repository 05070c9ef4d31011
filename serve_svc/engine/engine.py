"""What an engine promises to the rest of serve_svc: its values, its errors and its Protocol.

Knows nothing of vLLM (`vllm_engine.py`), of the rules that keep vLLM alive (`guarded_engine.py`), or of recovery (`supervisor.py`).
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import grpc

from adaptory.core.errors import FailedPrecondition, ServiceError, Unavailable


class EngineDead(Unavailable):
    """The engine cannot answer any more; what ran on it is lost, and a new engine is on its way."""

    default_reason = "ENGINE_DEAD"


class EngineDiedLoading(EngineDead):
    """The engine died while it loaded an adapter, perhaps of it."""

    default_reason = "ENGINE_DIED_LOADING"


class AdapterLoadFailed(FailedPrecondition):
    """The engine refused the adapter; this id must never be offered to it again."""

    default_reason = "ADAPTER_LOAD_FAILED"


class SchemaImpossible(ServiceError):
    """The engine cannot keep answers to this JSON schema; no other version of the bot, and no retry, would change it."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "SCHEMA_IMPOSSIBLE"

    def __init__(self, why: str) -> None:
        """Take a short clause that says why."""
        super().__init__(f"The engine cannot answer by the bot's answer_schema: {why}. Its operator must set another.")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Size of one engine.

    `max_loras` adapters can run in one batch, `max_cpu_loras` stay loaded. A step gives each running request a token, and with what
    that leaves of `max_step_tokens` it reads prompts. Memory for keys and values is `kv_cache_bytes` on CPU; on a GPU it is what
    `gpu_memory_fraction` of the device leaves.
    """

    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    max_model_tokens: int
    max_sequences: int
    max_step_tokens: int
    kv_cache_bytes: int
    gpu_memory_fraction: float


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """An adapter as the engine knows it: `path` is an absolute, immutable, content-addressed folder."""

    engine_id: int
    name: str  # tenant/bot@digest
    path: Path


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens; `temperature` 0 is greedy, `stop` strings end the text and are not part of it.

    `stop_ids` are tokens that end it, too, beside the base's own end-of-turn token. By an `answer_schema`, as JSON text, only tokens
    are picked that keep the answer to it. With `num_logprobs`, 0 or more, chunks tell their tokens, each with so many alternatives.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    stop_ids: tuple[int, ...] = ()
    answer_schema: str = ""
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One generation. `cache_salt` keeps tenants' cached prompts apart; `adapter` is None for the bare base."""

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    adapter: EngineAdapter | None
    cache_salt: str


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """A token, its natural log probability before any sampling, and the likeliest ones in its place, the likeliest first.

    The texts of an answer's tokens together are its text, followed by what stopped it: a part of a character is an empty text.
    """

    text: str
    logprob: float
    alternatives: tuple["GeneratedToken", ...] = ()


@dataclass(frozen=True, slots=True)
class EngineChunk:
    """What is new since the last chunk; the counts are totals so far. Only the last chunk has a `finish_reason`.

    Where the request asks for `tokens`, there is one for each id; their text may come with a later chunk.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"] | None
    num_prompt_tokens: int
    num_output_tokens: int
    tokens: tuple[GeneratedToken, ...] = ()


class Engine(Protocol):
    """One base model with hot-loadable adapters. Every method but `stop` may raise EngineDead."""

    @property
    def max_loras(self) -> int:
        """Distinct adapters that may run at once."""

    @property
    def max_cpu_loras(self) -> int:
        """Adapters that may be resident at once."""

    @property
    def max_rank(self) -> int:
        """Highest rank of an adapter."""

    @property
    def max_model_tokens(self) -> int:
        """Prompt and output tokens of one request together."""

    async def start(self) -> None:
        """Build the engine; blocks nothing but the caller. Raises EngineDead when it cannot be built."""

    async def stop(self) -> None:
        """Free everything; safe to call twice, and on an engine that is dead or never started."""

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Make the adapter resident; raises AdapterLoadFailed, after which its id is spent, or EngineDiedLoading."""

    async def unload_adapter(self, engine_id: int) -> None:
        """Forget the adapter; the caller has drained its requests. Unknown ids are ignored."""

    async def resident_adapters(self) -> frozenset[int]:
        """Ids that requests may name now."""

    async def prepare_schema(self, schema: str) -> None:
        """Return when requests may name this `answer_schema`; takes seconds at its first call. Raises SchemaImpossible."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Stream the answer; closing the generator aborts the work.

        Raises InvalidRequest when the prompt does not fit, SchemaImpossible when the answer cannot be kept to its schema.
        """

    async def check(self) -> None:
        """Return when the engine's process lives, else raise EngineDead. A hung engine passes: see the supervisor."""

    def corrupted_requests(self) -> int:
        """Requests of this engine whose logits held NaN so far; above zero the engine's memory is poisoned."""
