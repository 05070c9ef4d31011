"""Builds small adapter folders with numpy alone, good ones by default; tests break them in one place each."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptory.core.base_shape import LINEAR_MODULES, BaseShape

Tensors = dict[str, npt.NDArray[np.float32]]

TINY_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}


def tiny_shape() -> BaseShape:
    """Return the shape of a two-layer Llama with grouped key-value heads."""
    return BaseShape.from_config(TINY_CONFIG)


def write_adapter(
    folder: Path,
    base: BaseShape,
    *,
    rank: int = 8,
    target_modules: tuple[str, ...] = LINEAR_MODULES,
    weight_scale: float = 0.02,
    dtype: str = "F32",
    seed: int = 0,
) -> Path:
    """Write a plain LoRA with normal random weights, alpha twice its rank, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, adapter_config(rank=rank, target_modules=list(target_modules)))
    write_weights(folder, random_tensors(base, rank, target_modules, weight_scale, seed), dtype=dtype)
    return folder


def adapter_config(*, rank: int = 8, target_modules: list[str] | None = None) -> dict[str, Any]:
    """Return the fields of `adapter_config.json` that PEFT writes for plain LoRA, as far as they matter."""
    return {
        "base_model_name_or_path": None,
        "bias": "none",
        "init_lora_weights": True,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(LINEAR_MODULES) if target_modules is None else target_modules,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def random_tensors(
    base: BaseShape, rank: int, target_modules: tuple[str, ...], weight_scale: float = 0.02, seed: int = 0
) -> Tensors:
    """Return A (rank, in) and B (out, rank) of every chosen module under PEFT's names."""
    random = np.random.default_rng(seed)
    tensors: Tensors = {}
    for module, (num_in, num_out) in base.linear_shapes().items():
        if module.rpartition(".")[2] in target_modules:
            prefix = f"base_model.model.{module}"
            tensors[f"{prefix}.lora_A.weight"] = random.normal(0, weight_scale, (rank, num_in)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = random.normal(0, weight_scale, (num_out, rank)).astype(np.float32)
    return tensors


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    """Write `adapter_config.json`."""
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """Read `adapter_config.json` back."""
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return config


def write_weights(folder: Path, tensors: Mapping[str, npt.NDArray[np.float32]], *, dtype: str = "F32") -> None:
    """Write `adapter_model.safetensors` with every tensor in one dtype: F32, F16 or BF16."""
    blobs = {name: _encode(tensor, dtype) for name, tensor in tensors.items()}
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, blob in blobs.items():
        end = offset + len(blob)
        fields[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    write_raw_weights(folder, json.dumps(fields, separators=(",", ":")).encode(), b"".join(blobs.values()))


def write_raw_weights(folder: Path, header: bytes, data: bytes) -> None:
    """Write `adapter_model.safetensors` from a header, which is padded to 8 bytes, and its data."""
    padded = header + b" " * (-len(header) % 8)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(padded)) + padded + data)


def read_raw_weights(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Read the header's fields and the bytes behind the header back."""
    raw = (folder / "adapter_model.safetensors").read_bytes()
    (header_bytes,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + header_bytes]), raw[8 + header_bytes :]


def _encode(tensor: npt.NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "BF16":
        return (tensor.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return tensor.astype({"F32": np.float32, "F16": np.float16}[dtype]).tobytes()
