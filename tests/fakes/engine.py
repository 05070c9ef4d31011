"""A fake vLLM with the faults that were measured on the real one (0.32.0), for engines that start at once.

Text is the digest of the weights that answered, so a test can tell whose adapter spoke, or what a test gave it to say. The contract
suite runs on this fake and on vLLM itself; what it shows of the one it shows of the other.
"""

import asyncio
import json
import struct
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import (
    AdapterLoadFailed,
    EngineAdapter,
    EngineChunk,
    EngineDead,
    EngineRequest,
    EngineSettings,
    GeneratedToken,
    SchemaImpossible,
)
from serve_svc.engine.guarded_engine import GuardedEngine

SETTINGS = EngineSettings(
    max_loras=2,
    max_cpu_loras=4,
    max_lora_rank=8,
    max_model_tokens=256,
    max_sequences=8,
    max_step_tokens=256,
    kv_cache_bytes=1 << 28,
    gpu_memory_fraction=0.9,
)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a slot holds: whose voice it has, and whether it computes NaN."""

    voice: str
    is_poison: bool = False


BASE_VOICE = "base"
# Ids of what it says, apart from those of the small tokenizers that tests render prompts with.
_FIRST_TOKEN = 1_000


class FakeVllm:
    """An EngineBackend. `kill`, `hang` and `hold_loads` do to it what happens to engines."""

    def __init__(self, settings: EngineSettings = SETTINGS) -> None:
        self._settings = settings
        self._registered: OrderedDict[int, Weights] = OrderedDict()  # least recently used first
        self._left_in_slot = Weights(BASE_VOICE)
        self._cached_prompts: set[tuple[str, tuple[int, ...], str]] = set()
        self._is_dead = False
        self._is_poisoned = False
        self._num_corrupted = 0
        self._free_to_step = asyncio.Event()
        self._free_to_step.set()
        self._free_to_load = asyncio.Event()
        self._free_to_load.set()
        self.loads: list[int] = []  # ids in the order their files were read
        self.speech: tuple[str, ...] = ()  # what it says, piece by piece and to its end, in place of the weights' voice
        self.requests: list[EngineRequest] = []
        self.num_loads_held = 0
        self.compiled: list[str] = []  # the schemas whose grammars it has compiled, each time
        self.num_cache_hits = 0
        self.num_unfinished = 0
        self.num_aborted = 0

    def kill(self) -> None:
        """End the process: running streams fail, calls under way are never answered."""
        self._is_dead = True
        self._free_to_step.set()

    def hang(self) -> None:
        """Stop stepping; health goes on to look good."""
        self._free_to_step.clear()

    def hold_loads(self) -> None:
        """Let the reading of adapters take until `release_loads`; steps go on beside it."""
        self._free_to_load.clear()

    def release_loads(self) -> None:
        """Let the held loads finish."""
        self._free_to_load.set()

    async def start(self) -> None:
        """Nothing to build."""

    async def stop(self) -> None:
        """Kill the process."""
        self.kill()

    async def add_lora(self, adapter: EngineAdapter) -> bool:
        """Answer True for a known id whatever its path; a failed activation leaves the id registered."""
        await self._answerable()
        if adapter.engine_id in self._registered:
            self._registered.move_to_end(adapter.engine_id)
            return True
        self.num_loads_held += 1
        await self._free_to_load.wait()
        self.num_loads_held -= 1
        await self._answerable()
        self._load(adapter)
        return True

    async def remove_lora(self, engine_id: int) -> bool:
        """Forget the id, used or not."""
        await self._answerable()
        return self._registered.pop(engine_id, None) is not None

    async def list_loras(self) -> set[int]:
        """Return what is registered, half loaded ones among them."""
        await self._answerable()
        return set(self._registered)

    async def prepare_schema(self, schema: str) -> None:
        """Find out what conforms to the schema."""
        await self._answerable()
        self.compiled.append(schema)
        conforming_words(schema)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Speak one word a step: the voice of the weights that compute it."""
        num_prompt_tokens, max_tokens = len(request.prompt_ids), request.sampling.max_tokens
        schema = request.sampling.answer_schema
        speech = conforming_words(schema) if schema else self.speech
        self._look_up_prompt(request)
        self.requests.append(request)
        self.num_unfinished += 1
        try:
            for number in range(1, max_tokens + 1):
                await self._step()
                weights = self._weights_of(request.adapter)
                self._is_poisoned |= weights.is_poison
                if self._is_poisoned:
                    self._num_corrupted += 1
                    raise OutputCorrupted(request.adapter)
                token = _FIRST_TOKEN + number
                is_stop, is_said = token in request.sampling.stop_ids, number == len(speech)
                reason: Literal["stop", "length"] | None = (
                    "stop" if is_stop or is_said else "length" if number == max_tokens else None
                )
                text = "" if is_stop else speech[number - 1] if speech else f"{weights.voice} "
                tokens = () if request.sampling.num_logprobs is None else (_tell(text, request.sampling.num_logprobs),)
                yield EngineChunk(text, (token,), reason, num_prompt_tokens, number, tokens)
                if is_stop or is_said:
                    break
        except (GeneratorExit, asyncio.CancelledError):
            self.num_aborted += 1
            raise
        finally:
            self.num_unfinished -= 1

    async def check_health(self) -> None:
        """Test a flag, like vLLM: a hung engine passes."""
        if self._is_dead:
            raise EngineDead("killed")

    def corrupted_requests(self) -> int:
        """Return how many requests met NaN."""
        return self._num_corrupted

    async def _answerable(self) -> None:
        if self._is_dead:
            await asyncio.Event().wait()

    async def _step(self) -> None:
        await asyncio.sleep(0)
        await self._free_to_step.wait()
        await self.check_health()

    def _look_up_prompt(self, request: EngineRequest) -> None:
        key = (request.cache_salt, request.prompt_ids, request.adapter.name if request.adapter else "")
        self.num_cache_hits += key in self._cached_prompts
        self._cached_prompts.add(key)

    def _weights_of(self, adapter: EngineAdapter | None) -> Weights:
        """Return what is in the slot; an id that is not registered is loaded within the step, where a failure is fatal."""
        if adapter is None:
            return Weights(BASE_VOICE)
        if adapter.engine_id not in self._registered:
            try:
                self._load(adapter)
            except AdapterLoadFailed as err:
                self.kill()
                raise EngineDead("died in its step") from err
        self._registered.move_to_end(adapter.engine_id)
        return self._registered[adapter.engine_id]

    def _load(self, adapter: EngineAdapter) -> None:
        self.loads.append(adapter.engine_id)
        try:
            weights, rank = _read_weights(adapter.path)
        except (OSError, ValueError, KeyError, struct.error) as err:
            raise AdapterLoadFailed(f"unreadable: {err}") from err
        if rank > self._settings.max_lora_rank:
            self._registered[adapter.engine_id] = self._left_in_slot
            raise AdapterLoadFailed("The size of tensor a must match the size of tensor b")
        self._registered[adapter.engine_id] = self._left_in_slot = weights
        while len(self._registered) > self._settings.max_cpu_loras:
            self._registered.popitem(last=False)


def fake_engine(settings: EngineSettings = SETTINGS) -> tuple[GuardedEngine, FakeVllm]:
    """Return an engine under the real rules, and the fake below it."""
    backend = FakeVllm(settings)
    return GuardedEngine(backend, settings), backend


def conforming_words(schema: str) -> tuple[str, ...]:
    """Return the words of a short answer that conforms. Raises SchemaImpossible where a definition is missing, as vLLM does."""
    root = json.loads(schema)
    try:
        *words, last = json.dumps(_conform(root, root.get("$defs", {}))).split(" ")
    except KeyError as err:
        raise SchemaImpossible("no grammar can be made of it") from err
    return (*(f"{word} " for word in words), last)


def _conform(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    said: Any
    match schema:
        case {"$ref": str(reference)}:
            said = _conform(definitions[reference.removeprefix("#/$defs/")], definitions)
        case {"enum": [said, *_]} | {"const": said}:
            pass
        case {"type": "object", "properties": properties}:
            said = {name: _conform(value, definitions) for name, value in properties.items()}
        case {"type": "string"}:
            said = "x" * schema.get("minLength", 1)
        case {"type": "boolean"}:
            said = True
        case _:
            said = schema["minimum"]
    return said


def _tell(text: str, num_alternatives: int) -> GeneratedToken:
    """Return a token that is sure of itself, and alternatives that are less and less so."""
    others = tuple(GeneratedToken(f"{place}", -0.5 - place) for place in range(1, num_alternatives))
    return GeneratedToken(text, -0.5, (GeneratedToken(text, -0.5), *others)[:num_alternatives])


def voice_of(folder: Path) -> str:
    """Return the word an adapter's weights speak."""
    return sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()[:8]


def _read_weights(folder: Path) -> tuple[Weights, int]:
    """Read what decides the behaviour: whose weights they are, whether any is not finite, and the rank they really have."""
    if int(json.loads((folder / "adapter_config.json").read_text())["r"]) < 1:
        raise ValueError("LoRA rank `r` must be a positive integer")
    data = (folder / "adapter_model.safetensors").read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_bytes])
    body = data[8 + header_bytes :]
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    if max(entry["data_offsets"][1] for entry in tensors) != len(body):
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    is_finite = bool(np.isfinite(np.frombuffer(body, dtype=np.float32)).all())
    return Weights(voice_of(folder), is_poison=not is_finite), max(min(entry["shape"]) for entry in tensors)
