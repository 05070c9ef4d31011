"""What `bench.lora` and `bench.engine` measure: the scenarios, their prompts, and adapters of random weights."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from adaptory.core.adapter_check import CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.base_shape import LINEAR_MODULES, BaseShape

BASE = "smollm2-135m-instruct"
TEXT = Path(__file__).parent.parent / "examples" / "data" / "aurora" / "support.jsonl"
NUM_ADAPTERS = 16
RANK = 16
_STREAMS = (1, 16)
_PROMPT_TOKENS = (30, 400)
_ADAPTERS = (0, 1, 4, NUM_ADAPTERS)
# Of A and B; the answers differ from the base's and stay text.
_WEIGHT_SCALE = 0.02


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many streams at once, whose adapters alternate; none at all, if there are 0 adapters."""

    num_adapters: int
    num_streams: int
    prompt_tokens: int

    @property
    def name(self) -> str:
        """Name it in words."""
        adapters = f"{self.num_adapters} adapters" if self.num_adapters != 1 else "1 adapter"
        streams = f"{self.num_streams} streams" if self.num_streams != 1 else "1 stream"
        return f"{adapters if self.num_adapters else 'base'}, {streams}, prompts of {self.prompt_tokens}"

    def adapter_of(self, stream: int) -> int | None:
        """Return which adapter a stream has."""
        return stream % self.num_adapters if self.num_adapters else None


def list_scenarios() -> Iterator[Scenario]:
    """Yield every scenario in which each adapter has a stream."""
    for prompt_tokens in _PROMPT_TOKENS:
        for num_streams in _STREAMS:
            for num_adapters in _ADAPTERS:
                if num_adapters <= num_streams:
                    yield Scenario(num_adapters, num_streams, prompt_tokens)


def cut_prompts(tokenizer_file: Path, text: str, length: int, count: int = max(_STREAMS)) -> list[list[int]]:
    """Return `count` prompts of `length` tokens, no two alike."""
    ids = Tokenizer.from_file(str(tokenizer_file)).encode(text, add_special_tokens=False).ids
    step = (len(ids) - length) // count
    return [ids[stream * step : stream * step + length] for stream in range(count)]


def write_adapters(folder: Path, shape: BaseShape) -> list[Path]:
    """Write the adapters, each with weights of its own on every linear layer."""
    return [_write_adapter(folder / str(number), shape, number) for number in range(NUM_ADAPTERS)]


def _write_adapter(folder: Path, shape: BaseShape, seed: int) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": list(LINEAR_MODULES)}
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (num_in, num_out) in shape.linear_shapes().items():
        for name, size in (("lora_A", (RANK, num_in)), ("lora_B", (num_out, RANK))):
            weights = random.normal(0, _WEIGHT_SCALE, size).astype(np.float32)
            tensors[f"base_model.model.{module}.{name}.weight"] = weights
    save_file(tensors, folder / WEIGHTS_FILE)
    return folder
