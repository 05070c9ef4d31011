"""The calls an engine is made of, as raw as vLLM offers them.

`vllm_engine.py` implements them with AsyncLLM, the tests with a fake that has vLLM's measured faults. Only `guarded_engine.py`
may call them: each is safe under that file's rules and deadly without.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_svc.engine.engine import EngineAdapter, EngineChunk, EngineDead, EngineRequest


class OutputCorrupted(EngineDead):
    """A request's logits held NaN, so its memory must be taken for poisoned and every later answer with it."""

    default_reason = "OUTPUT_CORRUPTED"

    def __init__(self, adapter: EngineAdapter | None) -> None:
        """Remember whose request it was; with no adapter there is nobody to suspect."""
        name = adapter.name if adapter else "the base model"
        super().__init__(
            f"The engine computed NaN for {name} and restarts; retry in 30 s.",
            metadata={"adapter": name},
            retry_after_s=30.0,
        )
        self.adapter = adapter


class EngineBackend(Protocol):
    """vLLM's own behaviour; every method raises EngineDead when the engine's process is gone, or hangs for ever."""

    async def start(self) -> None:
        """Build the engine without blocking the event loop."""

    async def stop(self) -> None:
        """Kill the engine's process and end its streams with EngineDead."""

    async def add_lora(self, adapter: EngineAdapter) -> bool:
        """Load and activate; True as well when the id is known, whatever its path. Raises AdapterLoadFailed, half done."""

    async def remove_lora(self, engine_id: int) -> bool:
        """Forget the id, even if requests use it; they load it from its path again."""

    async def list_loras(self) -> set[int]:
        """Return the registered ids, those of failed loads among them."""

    async def prepare_schema(self, schema: str) -> None:
        """Compile the grammar of a schema, and keep it. Raises SchemaImpossible, and hangs the grammars of all when it never ends."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Stream the answer; naming an adapter that cannot be loaded kills the engine. Raises OutputCorrupted on NaN."""

    async def check_health(self) -> None:
        """Raise EngineDead when the engine's process is known to be gone."""

    def corrupted_requests(self) -> int:
        """Return how many finished requests held NaN."""
