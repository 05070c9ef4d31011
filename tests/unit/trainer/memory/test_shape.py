"""Shapes beside transformers' own models and configs, for each family the table knows; and the configs it refuses."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.catalogue import Catalogue
from adaptory.core.errors import InvalidRequest
from trainer_svc.memory.shape import ModelShape

with warnings.catch_warnings():
    # Torch and its friends warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore")

FAMILIES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi", "phi3", "qwen2", "qwen3", "smollm3")
# What every family needs to be told: 32 heads divide into the key heads of each.
NEEDED = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "vocab_size": 160,
}
TINY = {**NEEDED, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
VARIANTS: list[dict[str, object]] = [
    *({"model_type": family} for family in FAMILIES),
    # A head wider than hidden_size / heads tells a shape that reads head_dim from one that divides.
    *({"model_type": family, "head_dim": 24} for family in FAMILIES),
    *({"model_type": family, "tie_word_embeddings": True} for family in FAMILIES),
    *({"model_type": family, "tie_word_embeddings": False} for family in FAMILIES),
    *({"model_type": family, "attention_bias": True, "mlp_bias": True} for family in FAMILIES),
    *(
        {"model_type": family, "num_key_value_heads": None}
        for family in FAMILIES
        if family != "mistral" and "gemma" not in family
    ),
    {"model_type": "phi", "qk_layernorm": True},
]
MISTRAL_V01 = {
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}


def _build(config: dict[str, Any]) -> tuple[int, list[tuple[int, int]]]:
    """Build the real model without memory; return its parameters and the (in, out) of its decoder's linear layers."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    linear = [module for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]
    return model.num_parameters(), [(module.in_features, module.out_features) for module in linear]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_parameters_are_those_of_the_real_model(variant: dict[str, object]) -> None:
    """Linear layers, all the rest, and an adapter on every linear layer are counted as transformers builds them."""
    config = {**TINY, **variant}
    num_parameters, linear = _build(config)

    shape = ModelShape.from_config(config)

    assert shape.num_linear == sum(size * output for size, output in linear)
    assert shape.num_linear + shape.num_other == num_parameters
    assert shape.count_adapter(8) == 8 * sum(size + output for size, output in linear)


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_keys_are_what_transformers_takes(family: str) -> None:
    """A saved config leaves out defaults; each family's are its own."""
    real = AutoConfig.for_model(family, **NEEDED)

    shape = ModelShape.from_config({"model_type": family, **NEEDED})

    assert shape.num_kv_heads == real.num_key_value_heads
    assert shape.head_dim == getattr(real, "head_dim", 2)
    assert shape.max_tokens == real.max_position_embeddings
    assert shape.has_tied_embeddings == real.tie_word_embeddings


def test_gemma_3_is_read_from_its_short_config() -> None:
    """The published 4B config has its decoder's sizes in `text_config`, without heads and vocabulary."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    real = AutoConfig.for_model("gemma3", text_config=text).text_config

    shape = ModelShape.from_config({"model_type": "gemma3", "text_config": text, "vision_config": {}})

    assert replace(shape, model_type="gemma3_text") == ModelShape.from_config(real.to_dict())
    assert shape.num_linear + shape.num_other == _build({"model_type": "gemma3_text", **text})[0]
    assert not shape.is_trainable


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("smollm2-135m-instruct", 134_515_008),
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen2.5-7b", 7_615_616_512),
        ("mistral-7b", 7_248_023_552),
        ("gemma-3-270m", 268_098_176),
    ],
)
def test_catalogue_has_the_published_sizes(name: str, num_parameters: int) -> None:
    """The shapes of the catalogue add up to the parameters their publishers state, and the worker has their architectures."""
    shape = ModelShape.from_config(Catalogue.load().get(name).config)

    assert shape.num_linear + shape.num_other == num_parameters
    assert shape.is_trainable


def test_a_folder_is_read_by_its_config(tmp_path: Path) -> None:
    """The first Mistral, from a config.json alone, has the 7,241,732,096 parameters it is published with."""
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL_V01))

    shape = ModelShape.from_folder(tmp_path)

    assert shape.num_linear + shape.num_other == 7_241_732_096
    assert (shape.query_size, shape.kv_size, shape.max_tokens) == (4096, 1024, 32768)


def test_groups_are_what_reads_one_input() -> None:
    """Queries, keys and values read one input, gate and up another; Phi has no gate, and its fused successor has the same parts."""
    groups = {family: ModelShape.from_config({**TINY, "model_type": family}).groups for family in FAMILIES}

    assert groups["llama"] == {
        "qkv": (64, (64, 32, 32)),
        "output": (64, (64,)),
        "gate_up": (64, (96, 96)),
        "down": (96, (64,)),
    }
    assert groups["phi3"] == groups["llama"]
    assert groups["phi"] == {**groups["llama"], "gate_up": (64, (96,))}


@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff", b'{"model_type": "llama", "model_type": "phi"}'])
def test_folder_without_a_config_is_refused(content: bytes | None, tmp_path: Path) -> None:
    """A missing, broken or ambiguous file is named."""
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(InvalidRequest, match=r"base\.config: .*config\.json cannot be read"):
        ModelShape.from_folder(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mixtral", "num_local_experts": 8},
        {"model_type": "qwen3_moe"},
        {"model_type": "phimoe"},
        {"model_type": "deepseek_v3"},
        {"model_type": "gpt_oss"},
        {"model_type": "llama", "num_experts": 4},
        {"model_type": "gemma3", "text_config": {"n_routed_experts": 2}},
    ],
)
def test_experts_are_refused_with_the_reason(config: dict[str, object]) -> None:
    """A mixture of experts cannot be planned from its config; the message says why, and what can."""
    with pytest.raises(
        InvalidRequest, match=r"not planned yet: which experts a token meets decides .*dense model \(gemma"
    ):
        ModelShape.from_config({**TINY, **config})


@pytest.mark.parametrize("model_type", ["gpt2", "Llama", "", None, 7, ["llama"]])
def test_unknown_architecture_lists_the_known_ones(model_type: object) -> None:
    """Whatever the type is, the message has it and those that would do."""
    with pytest.raises(InvalidRequest, match=r"base\.model_type: is .*; known are gemma, .*llama, .*smollm3"):
        ModelShape.from_config({**TINY, "model_type": model_type})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", -64),
        ("intermediate_size", "96"),
        ("num_hidden_layers", True),
        ("num_attention_heads", None),
        ("num_attention_heads", 5),
        ("num_key_value_heads", 3),
        ("num_key_value_heads", 8),
        ("head_dim", 16.0),
        ("vocab_size", [160]),
        ("max_position_embeddings", None),
        ("tie_word_embeddings", None),
        ("attention_bias", 1),
    ],
)
def test_wrong_value_is_refused_with_its_key(key: str, value: object) -> None:
    """A size that cannot be is refused by the key's name and value."""
    with pytest.raises(InvalidRequest) as refused:
        ModelShape.from_config({**TINY, "num_key_value_heads": None, "model_type": "llama", key: value})

    assert refused.value.message.startswith(f"base.{key}: is {value!r}; ")


@pytest.mark.parametrize("key", NEEDED)
def test_missing_size_is_refused(key: str) -> None:
    """A size without which there is no shape has no default."""
    config = {other: value for other, value in {"model_type": "llama", **TINY}.items() if other != key}

    with pytest.raises(InvalidRequest, match=rf"base\.{key}: is missing"):
        ModelShape.from_config(config)


@pytest.mark.parametrize(
    ("family", "key"), [("gemma", "head_dim"), ("qwen3", "head_dim"), ("mistral", "num_key_value_heads")]
)
def test_null_is_refused_where_transformers_does(family: str, key: str) -> None:
    """Null stands for the number of heads only in families that take it so."""
    with pytest.raises(InvalidRequest, match=rf"base\.{key}: is None"):
        ModelShape.from_config({**TINY, "model_type": family, key: None})


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 64)
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(FAMILIES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "qk_layernorm", "num_experts", "")
_KEYS = st.sampled_from(["head_dim", *TINY, *_FLAGS])
_TYPES = st.sampled_from([*FAMILIES, "gemma3", "mixtral"])
_CHANGES = st.dictionaries(_KEYS, _VALUES, max_size=3)
_CONFIGS = st.one_of(
    st.dictionaries(st.text() | _KEYS, _VALUES),
    st.builds(lambda model_type, changes: {**TINY, "model_type": model_type, **changes}, _TYPES, _CHANGES),
    st.builds(lambda changes: {"model_type": "gemma3", "text_config": {**TINY, **changes}}, _CHANGES),
)


@given(_CONFIGS)
def test_any_config_gives_sizes_or_one_error(config: dict[str, object]) -> None:
    """Whatever a config.json holds, it is a shape of positive sizes or refused as bad input."""
    try:
        shape = ModelShape.from_config(config)
    except InvalidRequest:
        return
    sizes = [
        shape.query_size,
        shape.kv_size,
        shape.max_tokens,
        shape.num_linear,
        shape.num_other,
        shape.count_adapter(1),
    ]

    assert all(size > 0 for size in sizes)
    assert shape.num_heads % shape.num_kv_heads == 0
