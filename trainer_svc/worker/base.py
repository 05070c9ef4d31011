"""Loads the frozen base model: straight from safetensors into the layout that training reads, with no second copy.

Owns how frozen weights are held (bf16 or NF4) and asserts their dtype. What is computed with them is for `decoder`.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import bitsandbytes.functional as nf4
import torch
from transformers import AutoConfig, PretrainedConfig

from adaptory.core.base_shape import BaseShape
from adaptory.core.errors import FailedPrecondition
from adaptory.core.safetensors_header import TensorEntry, read_header
from trainer_svc.jobs.workspace import BasePrecision

NF4_BLOCK_SIZE = 64
# One unit in the last place of bf16.
PARITY_TOLERANCE = 2**-7
_MAX_HEADER_BYTES = 100 << 20
_MAX_TENSORS = 1 << 20

# The linear layers of a decoder layer that read the same input, and so are one matrix product.
GROUPS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


class FrozenWeight(Protocol):
    """A matrix [out, in] that never changes."""

    def dense(self) -> torch.Tensor:
        """Return it in bf16; what is returned may be made for this call alone."""


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """Held in bf16."""

    values: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the values themselves."""
        return self.values


class Nf4Weight:
    """Held in 4 bits (NF4, double quantisation, blocks of 64): each part is quantised by itself, as bitsandbytes' Linear4bit does."""

    def __init__(self, parts: Iterator[torch.Tensor]) -> None:
        """Quantise the parts [out_i, in], one after the other."""
        self._parts = [
            nf4.quantize_4bit(part, blocksize=NF4_BLOCK_SIZE, compress_statistics=True, quant_type="nf4")
            for part in parts
        ]

    def dense(self) -> torch.Tensor:
        """Return the dequantised matrix, made for this call."""
        parts = [nf4.dequantize_4bit(codes, state) for codes, state in self._parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True, slots=True)
class FrozenLinears:
    """The linear layers of one group: outputs of `widths` elements, one below the other in `weight`."""

    weight: FrozenWeight
    bias: torch.Tensor | None
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """One decoder layer: its groups by name and its norms; the head norms are there in Qwen3 alone."""

    linears: dict[str, FrozenLinears]
    input_norm: torch.Tensor
    mlp_norm: torch.Tensor
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class FrozenBase:
    """A base model on one device; `head` is the embedding itself where the two are tied."""

    config: PretrainedConfig
    shape: BaseShape
    embedding: torch.Tensor
    layers: tuple[FrozenLayer, ...]
    norm: torch.Tensor
    head: torch.Tensor
    device: torch.device


def load_base(folder: Path, precision: BasePrecision, device: torch.device) -> FrozenBase:
    """Load the model in `folder`; for NF4 the folder holds the values to quantise.

    Raises:
        InvalidRequest: The architecture is not of the Llama family.
        TypeError: A tensor is not bf16: it would train in a precision nobody planned.
        KeyError: A tensor is missing.
    """
    shape = BaseShape.from_folder(folder)
    with WeightFiles(folder, device) as files:
        embedding = files.read("model.embed_tokens.weight")
        layers = tuple(_load_layer(files, f"model.layers.{index}.", precision) for index in range(shape.num_layers))
        return FrozenBase(
            config=AutoConfig.from_pretrained(folder),
            shape=shape,
            embedding=embedding,
            layers=layers,
            norm=files.read("model.norm.weight"),
            head=embedding if shape.has_tied_embeddings else files.read("lm_head.weight"),
            device=device,
        )


def check_parity(base: FrozenBase, parity_dir: Path) -> None:
    """Compare the first layer of an NF4 base with the bf16 values that are served.

    Raises:
        FailedPrecondition: They differ by more than the rounding of another device's kernels.
    """
    with WeightFiles(parity_dir, base.device) as files:
        for name, modules in GROUPS.items():
            served = files.read_stacked([f"model.layers.0.{module}.weight" for module in modules])
            if not torch.allclose(
                base.layers[0].linears[name].weight.dense(), served, rtol=PARITY_TOLERANCE, atol=1e-6
            ):
                raise FailedPrecondition(
                    f"the NF4 values of layer 0 ({name}) are not those of {parity_dir}: prepare the base again",
                    reason="BASE_NOT_PARITY",
                    metadata={"group": name},
                )


def _load_layer(files: "WeightFiles", prefix: str, precision: BasePrecision) -> FrozenLayer:
    return FrozenLayer(
        linears={name: _load_linears(files, prefix, modules, precision) for name, modules in GROUPS.items()},
        input_norm=files.read(prefix + "input_layernorm.weight"),
        mlp_norm=files.read(prefix + "post_attention_layernorm.weight"),
        query_norm=files.read_if_there(prefix + "self_attn.q_norm.weight"),
        key_norm=files.read_if_there(prefix + "self_attn.k_norm.weight"),
    )


def _load_linears(
    files: "WeightFiles", prefix: str, modules: tuple[str, ...], precision: BasePrecision
) -> FrozenLinears:
    names = [f"{prefix}{module}.weight" for module in modules]
    biases = [files.read_if_there(f"{prefix}{module}.bias") for module in modules]
    present = [bias for bias in biases if bias is not None]
    weight: FrozenWeight
    if precision is BasePrecision.NF4:
        weight = Nf4Weight(files.read(name) for name in names)
    else:
        weight = DenseWeight(files.read_stacked(names))
    return FrozenLinears(
        weight=weight,
        bias=torch.cat(present) if present else None,
        widths=tuple(files.entry(name).shape[0] for name in names),
    )


class WeightFiles(AbstractContextManager["WeightFiles"]):
    """The safetensors files of a folder, read straight into tensors: no mapping, no intermediate copy on the CPU."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Read the headers of all files of the folder. Raises FileNotFoundError when there is none."""
        self._device = device
        self._descriptors: list[int] = []
        self._entries: dict[str, tuple[int, TensorEntry]] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            message = f"no safetensors file in {folder}"
            raise FileNotFoundError(message)
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            self._descriptors.append(descriptor)
            header = read_header(descriptor, max_header_bytes=_MAX_HEADER_BYTES, max_tensors=_MAX_TENSORS)
            self._entries |= {name: (descriptor, entry) for name, entry in header.items()}

    def __enter__(self) -> Self:
        """Return itself; leaving closes the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor lies. Raises KeyError when it is missing, TypeError when it is not bf16."""
        if name not in self._entries:
            message = f"the base has no tensor {name}"
            raise KeyError(message)
        entry = self._entries[name][1]
        if entry.dtype != "BF16":
            message = f"{name} is {entry.dtype}; a prepared base is BF16 throughout"
            raise TypeError(message)
        return entry

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor. Raises as `entry`."""
        return self.read_stacked([name])

    def read_if_there(self, name: str) -> torch.Tensor | None:
        """Return a tensor, or None where this architecture has none of that name."""
        return self.read(name) if name in self._entries else None

    def read_stacked(self, names: list[str]) -> torch.Tensor:
        """Return tensors that differ in their first size alone, one below the other. Raises as `entry`."""
        entries = [self.entry(name) for name in names]
        rows = sum(entry.shape[0] for entry in entries)
        stacked = torch.empty((rows, *entries[0].shape[1:]), dtype=torch.bfloat16)
        target = stacked.view(torch.uint8).numpy().reshape(-1).data
        for name, entry in zip(names, entries, strict=True):
            size = entry.end - entry.begin
            _read_exactly(self._entries[name][0], target[:size], entry.begin)
            target = target[size:]
        return stacked.to(self._device)


def _read_exactly(descriptor: int, target: memoryview, offset: int) -> None:
    while target:
        num_read = os.preadv(descriptor, [target], offset)
        if num_read == 0:
            message = "a safetensors file ends before its last tensor"
            raise EOFError(message)
        target, offset = target[num_read:], offset + num_read
