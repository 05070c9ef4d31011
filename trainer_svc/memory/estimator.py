"""The memory model of one training job: what each part takes, in bytes, above the worker's start-up baseline.

Mirrors the worker's own allocations (`worker/base`, `adapter`, `tape`, `layer`, `loss`): a change there is a change here. The terms
that no formula gives (tokenizer, the matrix library's kernels) were measured on SmolLM2-135M and are named as such.
Symbols: h hidden, i intermediate, kv all key heads, L layers, V vocabulary, r rank, N packed tokens of the largest micro-batch.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from adaptory.core.base_shape import BaseShape
from trainer_svc.jobs.workspace import BasePrecision

BF16_BYTES = 2
# NF4 with double quantisation: half a byte, one byte of scale for 64 values, 4 bytes of scale for 256 of those scales.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Masters and gradients in fp32, the copy in bf16, two moments in fp32.
ADAPTER_BYTES = 4 + 4 + 2
MOMENT_BYTES = 4 + 4
SIZE_MULTIPLE = 32
LOSS_BLOCK_TOKENS = 128
MAX_SCORE_ELEMENTS = 1 << 23
# Measured: two tokenizers and the rows, for each entry of the vocabulary; kernels oneDNN keeps for each size of N it meets.
TOKENIZER_BYTES = 900
KERNEL_BYTES = 50_000_000
MAX_KERNEL_SIZES = 6
# Measured: small objects, holes of the heap, files of libraries first read while training.
SLACK_BYTES = 24_000_000


class DeviceKind(enum.StrEnum):
    """Where a job runs."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a base that memory depends on, in elements."""

    base: BaseShape

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Read a parsed `config.json`. Raises InvalidRequest when it is not of the Llama family."""
        return cls(BaseShape.from_config(config))

    @property
    def kv_size(self) -> int:
        """Elements of all keys of a token."""
        return self.base.num_kv_heads * self.base.head_dim

    @property
    def query_size(self) -> int:
        """Elements of all queries of a token."""
        return self.base.num_heads * self.base.head_dim

    @property
    def num_linear(self) -> int:
        """Parameters of the linear layers, those that NF4 quantises."""
        return sum(num_in * num_out for num_in, num_out in self.base.linear_shapes().values())

    @property
    def num_other(self) -> int:
        """Parameters of embeddings, head and norms."""
        base = self.base
        tables = 1 if base.has_tied_embeddings else 2
        return tables * base.vocab_size * base.hidden_size + (2 * base.num_layers + 1) * base.hidden_size

    def count_adapter(self, rank: int) -> int:
        """Return the parameters of an adapter on all linear layers."""
        return rank * sum(num_in + num_out for num_in, num_out in self.base.linear_shapes().values())


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to run a job: how the base is held, whether layers are run again, and the packs that come of it."""

    precision: BasePrecision
    checkpointing: bool
    max_nodes: int
    longest_row_tokens: int
    micro_batch_rows: int
    num_sizes: int


def estimate_terms(shape: ModelShape, cut: Cut, *, rank: int, device: DeviceKind) -> dict[str, int]:
    """Return the terms of the peak; they add up to it, since the step is the largest phase and all of them are alive in it."""
    terms = {
        "frozen_weights": _frozen_bytes(shape, cut.precision),
        "adapter": ADAPTER_BYTES * shape.count_adapter(rank),
        "optimizer_moments": MOMENT_BYTES * shape.count_adapter(rank),
        "kept_activations": _tape_bytes(shape, cut, rank),
        "passing_activations": _passing_bytes(shape, cut, device),
        "dequantised_weight": _dequantised_bytes(shape, cut.precision),
        "loss": LOSS_BLOCK_TOKENS * shape.base.vocab_size * (BF16_BYTES + 4 + BF16_BYTES),
        "slack": SLACK_BYTES,
    }
    if device is DeviceKind.CPU:
        terms["tokenizer"] = TOKENIZER_BYTES * shape.base.vocab_size
        terms["kernels"] = KERNEL_BYTES * min(cut.num_sizes, MAX_KERNEL_SIZES)
    return terms


def _frozen_bytes(shape: ModelShape, precision: BasePrecision) -> int:
    linear_bytes = NF4_BYTES if precision is BasePrecision.NF4 else BF16_BYTES
    return round(shape.num_linear * linear_bytes) + BF16_BYTES * shape.num_other


def _tape_bytes(shape: ModelShape, cut: Cut, rank: int) -> int:
    """Inputs of all layers and one output, and one slot of the rest for each layer, or in all with checkpointing."""
    base = shape.base
    heads = shape.query_size + 2 * shape.kv_size
    slot = heads + shape.query_size + base.hidden_size + 2 * base.intermediate_size + 7 * rank
    num_slots = 1 if cut.checkpointing else base.num_layers
    return BF16_BYTES * cut.max_nodes * ((base.num_layers + 1) * base.hidden_size + num_slots * slot)


def _passing_bytes(shape: ModelShape, cut: Cut, device: DeviceKind) -> int:
    """The backward pass of one layer: six tensors of i, norms in fp32, gathered heads and their gradients, attention scores."""
    base = shape.base
    of_mlp = cut.max_nodes * (6 * BF16_BYTES * base.intermediate_size + 24 * base.hidden_size)
    places = cut.micro_batch_rows * cut.longest_row_tokens
    gathered = places * 5 * BF16_BYTES * (shape.query_size + 2 * shape.kv_size)
    if device is DeviceKind.CUDA:
        return max(of_mlp, gathered)
    scores = 3 * BF16_BYTES * min(places * cut.longest_row_tokens * base.num_heads, 2 * MAX_SCORE_ELEMENTS)
    return of_mlp + gathered + scores


def _dequantised_bytes(shape: ModelShape, precision: BasePrecision) -> int:
    """Gate and up of one layer in bf16: the two parts and their join."""
    if precision is not BasePrecision.NF4:
        return 0
    return 2 * 2 * BF16_BYTES * shape.base.hidden_size * shape.base.intermediate_size
