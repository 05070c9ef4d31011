"""Adapters as other programs write them: their configs word for word, as far as they matter, beside small weights."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptory.core.base_shape import LINEAR_MODULES
from tests.adapters import Tensors, random_tensors, tiny_shape, write_config, write_weights

# PEFT 0.21, as save_pretrained writes it.
PEFT: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "peft_version": "0.21.0",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["up_proj", "q_proj", "o_proj", "k_proj", "gate_proj", "v_proj", "down_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
# LLaMA-Factory writes through PEFT, of an earlier release as it comes; this one with rsLoRA.
LLAMA_FACTORY: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "/data/models/SmolLM2-135M-Instruct",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["gate_proj", "k_proj", "down_proj", "v_proj", "o_proj", "q_proj", "up_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": True,
}
# Axolotl: PEFT's again, with `fan_in_fan_out` left as its settings have it, null.
AXOLOTL: dict[str, Any] = {**LLAMA_FACTORY, "fan_in_fan_out": None, "lora_dropout": 0.05, "use_rslora": False}
# torchtune's FullModelHFCheckpointer: no more than this.
TORCHTUNE: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": list(LINEAR_MODULES), "peft_type": "LORA"}
# Unsloth: targets by a pattern, and a mapping that names its fixes.
UNSLOTH: dict[str, Any] = {
    **PEFT,
    "auto_mapping": {
        "base_model_class": "LlamaForCausalLM",
        "parent_library": "transformers.models.llama.modeling_llama",
        "unsloth_fixed": True,
    },
    "base_model_name_or_path": "unsloth/smollm2-135m-instruct-bnb-4bit",
    "lora_dropout": 0,
    "target_modules": (
        "(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
        "(?:k_proj|v_proj|q_proj|o_proj|gate_proj|up_proj|down_proj).*?)|(?:\\bmodel\\.layers\\.[\\d]{1,}\\."
        "(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\\."
        "(?:(?:k_proj|v_proj|q_proj|o_proj|gate_proj|up_proj|down_proj)))"
    ),
    "task_type": None,
}
ORIGINS: Mapping[str, Mapping[str, Any]] = {
    "peft": PEFT,
    "llama_factory": LLAMA_FACTORY,
    "axolotl": AXOLOTL,
    "torchtune": TORCHTUNE,
    "unsloth": UNSLOTH,
}


def tiny_tensors() -> Tensors:
    """Return matrices of rank 8 for every linear layer of the tiny base, under PEFT's names."""
    return random_tensors(tiny_shape(), 8, LINEAR_MODULES)


def write_foreign(
    folder: Path, config: Mapping[str, object], tensors: Tensors | None = None, *, dtype: str = "F32"
) -> Path:
    """Write an adapter as it came and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    write_weights(folder, tiny_tensors() if tensors is None else tensors, dtype=dtype)
    return folder


def pack(folder: Path) -> bytes:
    """Return the tar of everything in a folder, as `tar cf - folder` would."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, arcname=folder.name)
    return packed.getvalue()
