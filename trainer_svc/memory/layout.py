"""How the worker lays out the memory of a step: what is kept for the backward pass, and the stack for what passes.

The one source of both numbers: the estimator prices plans with them and the worker takes what they say. They follow `worker/layer`,
`projection`, `attention` and `loss` line by line, and contract tests hold them against what those really take.
Symbols: h hidden, i intermediate, q and kv all query and key heads, a = q + 2kv, r rank, V vocabulary; N nodes, R rows, L width,
P = R L places, M learned tokens. Sizes in bytes unless they are called widths, which are elements of a node.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Home, Recompute, Techniques, holds_scores

# What is said to be in bf16 may be in fp16, which takes as much.
BF16, FP32, INT64 = 2, 4, 8
# A node count is rounded up (`round_size`), since the matrix library builds kernels for every size it meets: to a multiple of this
# and of a sixteenth of the power of two below it, so that long rows too come in few sizes. That computes 6 % more at most.
SIZE_MULTIPLE = 32
_SIZES_PER_OCTAVE = 16
WIDTH_MULTIPLE = 8
# Elements of one block of attention scores, where these are held.
MAX_SCORE_ELEMENTS = 1 << 22
# Values of 8-bit moments that share a scale (bitsandbytes' own), and values that are updated at once.
INT8_BLOCK = 256
MOMENT_PIECE = 1 << 18
# Records on the device where they are offloaded.
NUM_STAGED_RECORDS = 2
# Values that are widened at once: what that allocates beside the stack stays small.
SLAB_ELEMENTS = 1 << 20
NF4_BLOCK_SIZE = 64
# Tensors of the stack begin at multiples of 64 bytes: for the some 30 that are alive at once.
_ALIGNMENT_LOSS_BYTES = 4096
_CODES_PER_BYTE = 2


@dataclass(frozen=True, slots=True)
class PackSize:
    """The sizes of one micro-batch that its memory depends on: N, R, L, M, and how many places share an earlier row's node."""

    nodes: int
    rows: int
    width: int
    learned: int
    copies: int = 0

    @property
    def places(self) -> int:
        """Tokens of all rows, each as long as the longest."""
        return self.rows * self.width


@dataclass(frozen=True, slots=True)
class TapeWidths:
    """What a layer keeps in a record of its own, and what lies in the slot all layers share."""

    record: Mapping[str, int]
    shared: Mapping[str, int]


def lay_out_tape(shape: ModelShape, rank: int, recompute: Recompute) -> TapeWidths:
    """Return the widths of what is kept: h + a + q + h + 2i and 7r, of which recomputing shares the 2i, or all but the input.

    Norms of heads and of outputs add what they read: a, and 2h.
    """
    outputs = shape.has_output_norms
    heads = shape.query_size + 2 * shape.kv_size
    widths = {
        "x": shape.hidden_size,
        "heads": heads,
        **({"plain_heads": heads} if shape.has_head_norms else {}),
        "attended": shape.query_size,
        **({"attention_output": shape.hidden_size} if outputs else {}),
        "middle": shape.hidden_size,
        "gate_up": 2 * shape.intermediate_size,
        **({"mlp_output": shape.hidden_size} if outputs else {}),
        **{f"low_{name}": rank * len(outs) for name, (_, outs) in shape.groups.items()},
    }
    shared = {
        Recompute.NONE: set(),
        Recompute.SELECTIVE: {"gate_up"},
        Recompute.FULL: set(widths) - {"x"},
    }[recompute]
    return TapeWidths(
        record={name: width for name, width in widths.items() if name not in shared},
        shared={name: width for name, width in widths.items() if name in shared},
    )


def count_tape(shape: ModelShape, techniques: Techniques, num_nodes: int, rank: int) -> tuple[int, int]:
    """Return the records of all layers, or of two where they are offloaded, with the last output; and the slot they share."""
    widths = lay_out_tape(shape, rank, techniques.recompute)
    is_resident = techniques.activations_home is Home.DEVICE
    num_records = shape.num_layers if is_resident else min(NUM_STAGED_RECORDS, shape.num_layers)
    of_node = BF16 * num_nodes
    records = of_node * (num_records * sum(widths.record.values()) + shape.hidden_size)
    return records, of_node * sum(widths.shared.values())


def count_scratch(shape: ModelShape, techniques: Techniques, pack: PackSize, *, rank: int, device: DeviceKind) -> int:
    """Return what passes in a step: a gradient of N h, and the larger of one layer's backward pass, with another, and the loss."""
    return count_layer_scratch(shape, techniques, pack, rank=rank, device=device) + count_loss_excess(
        shape, techniques, pack, rank=rank, device=device
    )


def count_layer_scratch(
    shape: ModelShape, techniques: Techniques, pack: PackSize, *, rank: int, device: DeviceKind
) -> int:
    """Return what a layer takes, forward and backward, with the gradients of its input and output."""
    layer, gradient = _Passing(shape, techniques, pack, rank, device), BF16 * pack.nodes * shape.hidden_size
    backward = gradient + max(layer.mlp_backward(), layer.attention_backward())
    return gradient + max(backward, layer.forward()) + _ALIGNMENT_LOSS_BYTES


def count_loss_excess(
    shape: ModelShape, techniques: Techniques, pack: PackSize, *, rank: int, device: DeviceKind
) -> int:
    """Return what the loss takes beyond a layer's scratch, which it shares."""
    loss = _Passing(shape, techniques, pack, rank, device).loss() + BF16 * pack.nodes * shape.hidden_size
    layer = count_layer_scratch(shape, techniques, pack, rank=rank, device=device)
    return max(0, loss + _ALIGNMENT_LOSS_BYTES - layer)


def count_dense(shape: ModelShape, techniques: Techniques, group: str) -> int:
    """Return what one group's weights take in bf16 while a product reads them, and their codes where these are offloaded."""
    num_in, outs = shape.groups[group]
    resident = techniques.frozen_home is Home.DEVICE
    if techniques.base not in (BasePrecision.NF4, BasePrecision.INT8) and resident:
        return 0
    codes = num_in * sum(outs) // _CODES_PER_BYTE if techniques.base is BasePrecision.NF4 and not resident else 0
    return BF16 * num_in * sum(outs) + codes


def count_slab(shape: ModelShape, techniques: Techniques) -> int:
    """Return what dequantising allocates beside the stack on a CPU: one slab, and for NF4 a group's scales in fp32."""
    largest = max(num_in * sum(outs) for num_in, outs in shape.groups.values())
    slab = min(SLAB_ELEMENTS, largest)
    match techniques.base:
        case BasePrecision.NF4:
            return BF16 * slab + FP32 * largest // NF4_BLOCK_SIZE
        case BasePrecision.INT8:
            return FP32 * slab
        case _:
            return 0


def count_attention(shape: ModelShape, techniques: Techniques, pack: PackSize, device: DeviceKind) -> int:
    """Return what CUDA's FlashAttention allocates beside the stack in a backward pass; the plain kernel takes all from the stack.

    Of P places: what is attended, its logarithms, the gradients of q, k and v, that of q once more in fp32 while it adds up, and
    where queries share keys those of k and v for each query head (PyTorch, aten/native/transformers/cuda/flash_attn/flash_api.cpp).
    """
    if holds_scores(techniques, device):
        return 0
    expanded = 2 * shape.query_size if shape.num_heads > shape.num_kv_heads else 0
    halves = 2 * shape.query_size + 2 * shape.kv_size + expanded
    return pack.places * (BF16 * halves + FP32 * (shape.query_size + 2 * shape.num_heads))


def count_sizes(packs: Iterable[PackSize]) -> tuple[int, int]:
    """Return how many numbers of nodes, and how many shapes of attention, there are among packs."""
    sizes = {(pack.nodes, pack.rows, pack.width) for pack in packs}
    return len({nodes for nodes, _, _ in sizes}), len({(rows, width) for _, rows, width in sizes})


def round_size(num_nodes: int) -> int:
    """Return how many nodes a pack gets that has so many, at least one."""
    multiple = max(SIZE_MULTIPLE, (1 << (num_nodes - 1).bit_length() >> 1) // _SIZES_PER_OCTAVE)
    return -(-num_nodes // multiple) * multiple


def count_indices(shape: ModelShape, pack: PackSize) -> int:
    """Return what the plan of a pack's gathers takes while it is made: five tables of P heads, and three that stay."""
    heads = shape.num_heads + 2 * shape.num_kv_heads
    return INT64 * pack.places * heads * 5 + INT64 * pack.nodes * (heads + shape.num_heads)


@dataclass(frozen=True, slots=True)
class _Passing:
    """One layer's stack, frame by frame."""

    shape: ModelShape
    techniques: Techniques
    pack: PackSize
    rank: int
    device: DeviceKind

    def forward(self) -> int:
        """Return a layer run forward."""
        normed = self._bf16(self.shape.hidden_size)
        project_in = normed + max(self._norm(), self._dense("qkv"), self._dense("gate_up"))
        activated = self._bf16(self.shape.intermediate_size)
        head_norms = FP32 * self.pack.nodes * self.shape.query_size if self.shape.has_head_norms else 0
        output_norm = self._norm() if self.shape.has_output_norms else 0
        through_down = activated + max(self._dense("down"), output_norm)
        return max(project_in, head_norms, self._attend(), self._dense("output"), through_down)

    def mlp_backward(self) -> int:
        """Return the backward pass of gate, up and down."""
        inner, hidden = self._bf16(self.shape.intermediate_size), self._bf16(self.shape.hidden_size)
        through_down = 2 * inner + self._end_backward("down")
        through_gate_up = hidden + max(self._norm(), self._projection_backward("gate_up"))
        return hidden + max(2 * inner + max(through_down, through_gate_up), self._norm_backward())

    def attention_backward(self) -> int:
        """Return the backward pass of attention and its projections."""
        heads = self.shape.query_size + 2 * self.shape.kv_size
        attended, hidden = self._bf16(self.shape.query_size), self._bf16(self.shape.hidden_size)
        through_attention = attended + max(self._end_backward("output"), self._differentiate_attention())
        turning = self._bf16(heads - self.shape.kv_size)
        norms = 3 * FP32 * self.pack.nodes * self.shape.query_size if self.shape.has_head_norms else 0
        through_qkv = hidden + max(self._norm(), self._projection_backward("qkv"))
        inside = self._bf16(heads) + max(through_attention, turning, norms, through_qkv)
        return hidden + max(inside, self._norm_backward())

    def loss(self) -> int:
        """Return the loss and its gradient: blocks of logits in bf16 and fp32, then the gradient of all nodes in fp32."""
        hidden, learned = self.shape.hidden_size, self.pack.learned
        block = min(self.techniques.loss_block_tokens, learned)
        logits = (BF16 + FP32) * block * self.shape.vocab_size
        spreading = FP32 * hidden * (self.pack.nodes + learned)
        sources = BF16 * learned * hidden
        return 3 * sources + max(logits, sources + max(3 * FP32 * learned * hidden, spreading))

    def _bf16(self, width: int) -> int:
        return BF16 * self.pack.nodes * width

    def _norm(self) -> int:
        return FP32 * self.pack.nodes * self.shape.hidden_size

    def _norm_backward(self) -> int:
        return 3 * self._norm()

    def _dense(self, group: str) -> int:
        return count_dense(self.shape, self.techniques, group)

    def _projection_backward(self, group: str) -> int:
        num_in, outs = self.shape.groups[group]
        low = self.rank * len(outs)
        largest = max(self.rank * max(outs), low * num_in)
        if self.techniques.base is BasePrecision.TRAINED:
            largest = num_in * sum(outs)
        return max(self._dense(group), self._bf16(low) + (BF16 + FP32) * largest)

    def _end_backward(self, group: str) -> int:
        """Return the backward pass of a branch's last projection, and of the norm behind it with a gradient of its own."""
        if not self.shape.has_output_norms:
            return self._projection_backward(group)
        return self._bf16(self.shape.hidden_size) + max(self._norm_backward(), self._projection_backward(group))

    def _gathered(self) -> int:
        return BF16 * self.pack.places * (self.shape.query_size + 2 * self.shape.kv_size)

    def _scores(self) -> int:
        """Return one block of attention scores, or of weights; FlashAttention never holds them."""
        if not holds_scores(self.techniques, self.device):
            return 0
        groups = self.shape.num_heads // self.shape.num_kv_heads
        of_head = groups * self.pack.width**2
        # A block is of whole heads, so most are smaller: this bound grows with the pack, which finding the largest relies on.
        return BF16 * min(self.shape.num_kv_heads * self.pack.rows * of_head, max(MAX_SCORE_ELEMENTS, of_head))

    def _attend(self) -> int:
        return self._gathered() + BF16 * self.pack.places * self.shape.query_size + self._weigh()

    def _weigh(self) -> int:
        """Return weights, the scores they are made of, and the mask of what a token must not see."""
        return 2 * self._scores() + (self.pack.width**2 if self._scores() else 0)

    def _differentiate_attention(self) -> int:
        upstream = BF16 * self.pack.places * self.shape.query_size
        copied = 2 * self.shape.kv_size * (FP32 * self.pack.nodes + (BF16 + FP32) * self.pack.copies)
        return (
            upstream + 2 * self._gathered() + max(self._weigh(), 3 * self._scores(), copied if self.pack.copies else 0)
        )
