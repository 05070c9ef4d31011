"""The sizes of a decoder that memory depends on, read from its `config.json` alone: no weights, no training library.

Owns the table of families: what each takes for a key its config leaves out, as transformers 5.19 does, and what its layers hold.
What the sizes cost is `estimator`'s. A test builds every family with transformers and counts its parameters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shorten
from typing import Self

from adaptory.core.base_shape import ARCHITECTURES
from adaptory.core.errors import InvalidRequest
from adaptory.core.strict_json import parse_object

# How a config shows that its layers choose among experts: by its type, or by a count of them.
_EXPERT_TYPES = re.compile(r"moe|mixtral|deepseek_v\d|gpt_oss|dbrx")
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# Models that also see: the decoder's sizes are in `text_config`, which need not repeat its type.
_TEXT_TYPES = {"gemma3": "gemma3_text"}


@dataclass(frozen=True, slots=True)
class _Family:
    """What sets a family apart.

    `nullable` are the keys that null, or no default, leaves to the number of heads. `biased` are the groups that always have a bias,
    `bias_flags` the keys that give one to groups, `head_norm_flags` those that give a norm to each head.
    """

    defaults: Mapping[str, object]
    nullable: frozenset[str] = frozenset({"num_key_value_heads", "head_dim"})
    norms_per_layer: int = 2
    vectors_per_norm: int = 1
    has_head_norms: bool = False
    head_norm_flags: tuple[str, ...] = ()
    biased: frozenset[str] = frozenset()
    bias_flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_gated_mlp: bool = True
    has_fused_inputs: bool = False


_NORMS_ON_BOTH_SIDES = 4
_ATTENTION_BIAS = {"attention_bias": ("qkv", "output")}
_LLAMA_BIASES = {**_ATTENTION_BIAS, "mlp_bias": ("gate_up", "down")}
_GEMMA_DEFAULTS = {"max_position_embeddings": 8192, "head_dim": 256, "tie_word_embeddings": True}
# The published configs of Gemma 3 leave out its heads and its vocabulary, so those of its decoder have defaults too.
_GEMMA3_DEFAULTS = {
    **_GEMMA_DEFAULTS,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
}
_FAMILIES = {
    "llama": _Family({"max_position_embeddings": 2048}, bias_flags=_LLAMA_BIASES),
    "smollm3": _Family(
        {"max_position_embeddings": 32768, "num_key_value_heads": 4, "tie_word_embeddings": True},
        bias_flags=_LLAMA_BIASES,
    ),
    "mistral": _Family({"max_position_embeddings": 131072, "num_key_value_heads": 8}, nullable=frozenset({"head_dim"})),
    "qwen2": _Family(
        {"max_position_embeddings": 32768, "num_key_value_heads": 32},
        biased=frozenset({"qkv"}),
    ),
    "qwen3": _Family(
        {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
        nullable=frozenset({"num_key_value_heads"}),
        has_head_norms=True,
        bias_flags=_ATTENTION_BIAS,
    ),
    "gemma": _Family({**_GEMMA_DEFAULTS, "num_key_value_heads": 16}, nullable=frozenset(), bias_flags=_ATTENTION_BIAS),
    "gemma2": _Family(
        {**_GEMMA_DEFAULTS, "num_key_value_heads": 4},
        nullable=frozenset(),
        norms_per_layer=_NORMS_ON_BOTH_SIDES,
        bias_flags=_ATTENTION_BIAS,
    ),
    "gemma3_text": _Family(
        _GEMMA3_DEFAULTS,
        nullable=frozenset(),
        norms_per_layer=_NORMS_ON_BOTH_SIDES,
        has_head_norms=True,
        bias_flags=_ATTENTION_BIAS,
    ),
    # One layer norm, of weight and bias, before attention and MLP, which run side by side.
    "phi": _Family(
        {"max_position_embeddings": 2048},
        vectors_per_norm=2,
        head_norm_flags=("qk_layernorm",),
        biased=frozenset({"qkv", "output", "gate_up", "down", "head"}),
        has_gated_mlp=False,
    ),
    "phi3": _Family({"max_position_embeddings": 4096}, has_fused_inputs=True),
}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a decoder that memory depends on, in elements; `model_type` is that of the whole model.

    `norms_per_layer` counts vectors of the hidden size; a layer norm has two, weight and bias, as `vectors_per_norm` says.
    `biased` has the `groups` whose linear layers have a bias, and "head" where the head has one. `has_fused_inputs`: the checkpoint
    holds query, key and value as one layer, and gate and up as one.
    """

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
    has_head_norms: bool
    has_gated_mlp: bool
    has_fused_inputs: bool
    norms_per_layer: int
    vectors_per_norm: int
    biased: frozenset[str]

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Read a parsed `config.json`; of a model that also sees, the decoder's part alone.

        Raises:
            InvalidRequest: The architecture is unknown or a mixture of experts, or a size is missing or cannot be; the message
                has the key, its value, and for an architecture those that are known.
        """
        whole_type, config = config.get("model_type"), _find_text_config(config)
        family = _find_family(config)
        keys = {"tie_word_embeddings": False, **family.defaults, **config}
        hidden_size, num_heads = _read_size(keys, "hidden_size"), _read_size(keys, "num_attention_heads")
        num_kv_heads, head_dim = _read_heads(keys, family, hidden_size, num_heads)
        flagged = [groups for key, groups in family.bias_flags.items() if _read_flag(keys, key)]
        return cls(
            model_type=str(whole_type),
            hidden_size=hidden_size,
            intermediate_size=_read_size(keys, "intermediate_size"),
            num_layers=_read_size(keys, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            vocab_size=_read_size(keys, "vocab_size"),
            max_tokens=_read_size(keys, "max_position_embeddings"),
            has_tied_embeddings=_read_flag(keys, "tie_word_embeddings"),
            has_head_norms=family.has_head_norms or any(_read_flag(keys, key) for key in family.head_norm_flags),
            has_gated_mlp=family.has_gated_mlp,
            has_fused_inputs=family.has_fused_inputs,
            norms_per_layer=family.norms_per_layer,
            vectors_per_norm=family.vectors_per_norm,
            biased=family.biased.union(*flagged),
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read the `config.json` in `folder`.

        Raises:
            InvalidRequest: As `from_config`, or there is no such file, or it is not a JSON object.
        """
        return cls.from_config(read_config(folder))

    @property
    def query_size(self) -> int:
        """Elements of all queries of a token."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Elements of all keys of a token, and as many of all values."""
        return self.num_kv_heads * self.head_dim

    @property
    def is_trainable(self) -> bool:
        """Whether the worker has this architecture; of the others, memory is only predicted."""
        return self.model_type in ARCHITECTURES

    @property
    def has_output_norms(self) -> bool:
        """Whether attention and MLP each have a norm behind them besides the one before."""
        return self.norms_per_layer == _NORMS_ON_BOTH_SIDES

    @property
    def has_qkv_bias(self) -> bool:
        """Whether queries, keys and values have a bias."""
        return "qkv" in self.biased

    @property
    def groups(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """The linear layers of one decoder layer by what they read: each input's size, and the sizes of the outputs made of it.

        Parts of a fused layer are listed apart.
        """
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "qkv": (hidden, (self.query_size, self.kv_size, self.kv_size)),
            "output": (self.query_size, (hidden,)),
            "gate_up": (hidden, (inner, inner) if self.has_gated_mlp else (inner,)),
            "down": (inner, (hidden,)),
        }

    @property
    def num_linear(self) -> int:
        """Parameters of the linear layers of all decoder layers, those that NF4 quantises; without biases."""
        return self.num_layers * sum(size * sum(outputs) for size, outputs in self.groups.values())

    @property
    def num_other(self) -> int:
        """Parameters of all the rest: embeddings, head unless tied, norms and biases."""
        biases = sum(sum(outputs) for group, (_, outputs) in self.groups.items() if group in self.biased)
        head_norms = 2 * self.vectors_per_norm * self.head_dim if self.has_head_norms else 0
        of_layer = self.norms_per_layer * self.hidden_size + head_norms + biases
        tables = (1 if self.has_tied_embeddings else 2) * self.vocab_size * self.hidden_size
        head_bias = self.vocab_size if "head" in self.biased else 0
        return tables + head_bias + self.num_layers * of_layer + self.vectors_per_norm * self.hidden_size

    def count_adapter(self, rank: int) -> int:
        """Return the parameters of a LoRA adapter of that rank on all linear layers; a fused layer has one A for all its outputs."""
        rows = 0
        for size, outputs in self.groups.values():
            rows += sum(outputs) + size * (1 if self.has_fused_inputs else len(outputs))
        return rank * self.num_layers * rows


def read_config(folder: Path) -> dict[str, object]:
    """Return the parsed `config.json` in `folder`. Raises InvalidRequest when there is none, or it is not a JSON object."""
    file = folder / "config.json"
    try:
        return parse_object(file.read_bytes())
    except (OSError, ValueError) as err:
        raise InvalidRequest.of_field("base.config", f"{file} cannot be read: {err}") from err


def _find_text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the decoder's part of a config: all of it, but for models that also see."""
    model_type, text = config.get("model_type"), config.get("text_config")
    if not isinstance(model_type, str) or model_type not in _TEXT_TYPES:
        return config
    if not isinstance(text, Mapping):
        raise _bad_key("text_config", config, f"the sizes of {model_type}'s decoder are needed there")
    # The whole model decides whether head and embeddings are one, whatever its decoder's part says.
    is_tied = config.get("tie_word_embeddings", True)
    return {"model_type": _TEXT_TYPES[model_type], **text, "tie_word_embeddings": is_tied}


def _find_family(config: Mapping[str, object]) -> _Family:
    model_type, known = config.get("model_type"), ", ".join(sorted([*_FAMILIES, *_TEXT_TYPES]))
    is_text = isinstance(model_type, str)
    key = next((key for key in _EXPERT_KEYS if config.get(key)), None)
    if key or (is_text and _EXPERT_TYPES.search(str(model_type))):
        problem = (
            "mixture-of-experts models are not planned yet: which experts a token meets decides what is kept for the backward pass, "
            f"and no config tells that; take a dense model ({known})"
        )
        raise _bad_key(key or "model_type", config, problem)
    if not is_text or model_type not in _FAMILIES:
        raise _bad_key("model_type", config, f"known are {known}")
    return _FAMILIES[str(model_type)]


def _read_heads(keys: Mapping[str, object], family: _Family, hidden_size: int, num_heads: int) -> tuple[int, int]:
    """Return the number of key heads and the size of a head: null means as many as heads, and an equal share of the hidden size."""
    unset = {key for key in family.nullable if keys.get(key) is None}
    num_kv_heads = num_heads if "num_key_value_heads" in unset else _read_size(keys, "num_key_value_heads")
    if num_heads % num_kv_heads:
        raise _bad_key(
            "num_key_value_heads", {"num_key_value_heads": num_kv_heads}, f"it must divide {num_heads} heads"
        )
    if "head_dim" not in unset:
        return num_kv_heads, _read_size(keys, "head_dim")
    if hidden_size % num_heads:
        raise _bad_key("num_attention_heads", keys, f"it must divide a hidden_size of {hidden_size}")
    return num_kv_heads, hidden_size // num_heads


def _read_size(keys: Mapping[str, object], key: str) -> int:
    size = keys.get(key)
    if type(size) is not int or size <= 0:
        raise _bad_key(key, keys, "a positive integer is needed")
    return size


def _read_flag(keys: Mapping[str, object], key: str) -> bool:
    value = keys.get(key, False)
    if not isinstance(value, bool):
        raise _bad_key(key, keys, "true or false is needed")
    return value


def _bad_key(key: str, keys: Mapping[str, object], problem: str) -> InvalidRequest:
    found = f"is {shorten(keys[key])}" if key in keys else "is missing"
    return InvalidRequest.of_field(f"base.{key}", f"{found}; {problem}")
