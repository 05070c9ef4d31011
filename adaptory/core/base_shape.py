"""The sizes of a base model, read from its `config.json`, and the linear modules an adapter may change.

Owns the names of those modules, the same for all known architectures. Weights, tokenizers and folders belong to `base_model`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.errors import InvalidRequest

# Those whose decoder layers the worker has (`trainer_svc.worker.architecture` says how they differ), by `model_type`. Their linear
# modules have the same names; others would need their own table.
ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma3_text"})
_TIED_UNLESS_SAID = frozenset({"gemma3_text"})
LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class BaseShape:
    """Sizes of a decoder, in elements; `model_type` is the family it belongs to, one of `ARCHITECTURES`."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_tokens: int
    has_tied_embeddings: bool

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "BaseShape":
        """Read the shape from a parsed `config.json`.

        Raises:
            InvalidRequest: The architecture is not a known one, or a size is missing or not positive.
        """
        model_type = config.get("model_type")
        if model_type not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise InvalidRequest.of_field("base.model_type", f"is {model_type!r}; known are {known}")
        hidden_size = _read_size(config, "hidden_size")
        num_heads = _read_size(config, "num_attention_heads")
        return cls(
            model_type=model_type,
            hidden_size=hidden_size,
            intermediate_size=_read_size(config, "intermediate_size"),
            num_layers=_read_size(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=_read_size(config, "num_key_value_heads", default=num_heads),
            head_dim=_read_size(config, "head_dim", default=hidden_size // num_heads),
            vocab_size=_read_size(config, "vocab_size"),
            max_tokens=_read_size(config, "max_position_embeddings"),
            has_tied_embeddings=config.get("tie_word_embeddings", model_type in _TIED_UNLESS_SAID) is True,
        )

    @classmethod
    def from_folder(cls, folder: Path) -> "BaseShape":
        """Read the shape from the `config.json` in `folder`.

        Raises:
            InvalidRequest: As `from_config`, or the file is not a JSON object.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise InvalidRequest.of_field("base.config", f"{folder / 'config.json'} is not a JSON object")
        return cls.from_config(config)

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Map each module an adapter may change to its (in, out) features: all linear ones but the head."""
        shapes = self._layer_shapes()
        return {
            f"model.layers.{layer}.{module}": shape
            for layer in range(self.num_layers)
            for module, shape in shapes.items()
        }

    def _layer_shapes(self) -> dict[str, tuple[int, int]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "self_attn.q_proj": (hidden, query),
            "self_attn.k_proj": (hidden, key),
            "self_attn.v_proj": (hidden, key),
            "self_attn.o_proj": (query, hidden),
            "mlp.gate_proj": (hidden, inner),
            "mlp.up_proj": (hidden, inner),
            "mlp.down_proj": (inner, hidden),
        }


def _read_size(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    """Return the positive integer under `key`; a missing or null one falls back to `default`."""
    value = config.get(key)
    size = default if value is None else value
    if type(size) is not int or size <= 0:
        raise InvalidRequest.of_field(f"base.{key}", f"is {size!r}; a positive integer is needed")
    return size
