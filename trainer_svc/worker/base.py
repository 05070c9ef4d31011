"""Loads the frozen base model: straight from safetensors into the layout that training reads, with no second copy.

Owns the layout; files and their dtype are `weight_files`'. How a matrix is held is `weights`'; computing with it is `decoder`'s.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import AutoConfig, PretrainedConfig

from adaptory.core.errors import FailedPrecondition
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, ComputePrecision
from trainer_svc.worker.architecture import Architecture, NormNames
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.offload import OffloadStore
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.weight_files import ComputedSource, WeightFiles
from trainer_svc.worker.weights import (
    DenseWeight,
    FrozenLayer,
    FrozenLinears,
    FrozenWeight,
    Int8Weight,
    Nf4Weight,
    StreamedWeight,
)

# One unit in the last place of bf16.
PARITY_TOLERANCE = 2**-7
# Of all values of a matrix: on CUDA one that lies between two codes may get the other one. Another base differs in nearly all.
MAX_DIFFERING_SHARE = 1e-3
# Rows compared at once, so that comparing takes little.
_CHECKED_ROWS = 256

# The linear layers of a decoder layer that read the same input, and so are one matrix product.
GROUPS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class FrozenBase:
    """A base model on one device; `head` is the embedding itself where the two are tied."""

    config: PretrainedConfig
    shape: ModelShape
    architecture: Architecture
    embedding: torch.Tensor
    layers: tuple[FrozenLayer, ...]
    norm: torch.Tensor
    head: torch.Tensor
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.embedding.dtype

    def embed(self, ids: torch.Tensor, out: torch.Tensor) -> None:
        """Write what the first layer reads of tokens [N], [N, h], to `out`."""
        torch.index_select(self.embedding, 0, ids, out=out)
        if self.architecture.embedding_scale is not None:
            out.mul_(torch.tensor(self.architecture.embedding_scale, dtype=out.dtype, device=out.device))


def load_base(
    folder: Path,
    precision: BasePrecision,
    device: torch.device,
    store: OffloadStore | None = None,
    *,
    streams: bool = False,
    compute: ComputePrecision = ComputePrecision.BF16,
) -> FrozenBase:
    """Load the model in `folder`; for NF4 and int8 the folder holds the values to quantise.

    With a `store` the linear layers' codes are offloaded to it; a base that `streams` reads its linear layers, in bf16, from the
    files each time it needs them. Whatever it is held in, its values are computed with in `compute`.

    Raises:
        InvalidRequest: The architecture is none of those that can be trained.
        TypeError: A tensor is not bf16: it would train in a precision nobody planned.
        KeyError: A tensor is missing.
        FailedPrecondition: A value is not in the range of what is computed in; of a base that streams, when it is read.
    """
    files, config = (
        ComputedSource(WeightFiles(folder, device, compute), dtype_of(compute)),
        AutoConfig.from_pretrained(folder),
    )
    return build_base(
        files, config, ModelShape.from_folder(folder), LayerLoader(files, precision, store, streams=streams)
    )


def build_base(files: ComputedSource, config: PretrainedConfig, shape: ModelShape, loader: "LayerLoader") -> FrozenBase:
    """Return the base whose layers `loader` loads; the rest comes from the files as it is."""
    embedding = files.read("model.embed_tokens.weight")
    architecture = Architecture.of(config, shape.head_dim)
    return FrozenBase(
        config=config,
        shape=shape,
        architecture=architecture,
        embedding=embedding,
        layers=tuple(loader.load(index, architecture.norm_names) for index in range(shape.num_layers)),
        norm=files.read("model.norm.weight"),
        head=embedding if shape.has_tied_embeddings else files.read("lm_head.weight"),
        device=embedding.device,
    )


def check_parity(base: FrozenBase, parity_dir: Path, scratch: Scratch) -> None:
    """Compare the first layer of an NF4 base with the bf16 values that are served, which were rounded on a CPU.

    Raises:
        FailedPrecondition: More of them differ than another device's kernels round otherwise.
    """
    files = WeightFiles(parity_dir, base.device)
    for name, modules in GROUPS.items():
        served = files.read_stacked([f"model.layers.0.{module}.weight" for module in modules])
        with scratch.frame():
            share = _count_differing(base.layers[0].linears[name].weight.dense(scratch), served) / served.numel()
        if share > MAX_DIFFERING_SHARE:
            raise FailedPrecondition(
                f"{share:.2%} of the NF4 values of layer 0 ({name}) are not those of {parity_dir}, and at most"
                f" {MAX_DIFFERING_SHARE:.1%} may be: prepare the base again",
                reason="BASE_NOT_PARITY",
                metadata={"group": name, "share": f"{share:.6f}"},
            )


def _count_differing(trained: torch.Tensor, served: torch.Tensor) -> int:
    parts = zip(torch.split(trained, _CHECKED_ROWS), torch.split(served, _CHECKED_ROWS), strict=True)
    return sum(
        int(torch.isclose(ours, theirs.to(ours.dtype), rtol=PARITY_TOLERANCE, atol=1e-6).logical_not_().sum())
        for ours, theirs in parts
    )


class LayerLoader:
    """Loads layers one by one, each the same way."""

    def __init__(
        self, files: ComputedSource, precision: BasePrecision, store: OffloadStore | None, *, streams: bool
    ) -> None:
        """Keep where layers come from and how their linear layers are held, as `load_base` has it."""
        self._files = files
        self._precision = precision
        self._store = store
        self._streams = streams

    def load(self, index: int, norms: NormNames) -> FrozenLayer:
        """Return one layer. Raises as the source."""
        files, prefix = self._files, f"model.layers.{index}."
        return FrozenLayer(
            linears={
                name: self._load_linears(prefix, modules, index * len(GROUPS) + place)
                for place, (name, modules) in enumerate(GROUPS.items())
            },
            input_norm=files.read(f"{prefix}{norms.attention}.weight"),
            mlp_norm=files.read(f"{prefix}{norms.mlp}.weight"),
            query_norm=files.read_if_there(prefix + "self_attn.q_norm.weight"),
            key_norm=files.read_if_there(prefix + "self_attn.k_norm.weight"),
            attention_output_norm=self._read_named(prefix, norms.attention_output),
            mlp_output_norm=self._read_named(prefix, norms.mlp_output),
        )

    def _read_named(self, prefix: str, name: str) -> torch.Tensor | None:
        return self._files.read(f"{prefix}{name}.weight") if name else None

    def _load_linears(self, prefix: str, modules: tuple[str, ...], place: int) -> FrozenLinears:
        names = [f"{prefix}{module}.weight" for module in modules]
        biases = [self._files.read_if_there(f"{prefix}{module}.bias") for module in modules]
        present = [bias for bias in biases if bias is not None]
        return FrozenLinears(
            weight=self._load_weight(names, place),
            bias=torch.cat(present) if present else None,
            widths=tuple(self._files.shape_of(name)[0] for name in names),
        )

    def _load_weight(self, names: list[str], place: int) -> FrozenWeight:
        files, store = self._files, self._store
        if self._precision is BasePrecision.NF4:
            quantised = Nf4Weight(files.stored.read(name) for name in names)
            return quantised if store is None else quantised.offload(store, place)
        if self._precision is BasePrecision.INT8:
            return Int8Weight(files.stored.read_stacked(names))
        if self._streams:
            return StreamedWeight(files.stacked_shape(names), partial(files.read_into, names))
        return DenseWeight(files.read_stacked(names))
