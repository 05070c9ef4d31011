"""The memory model of one training job: what each part takes in each phase, in bytes above the worker's start-up baseline.

What a step keeps and passes is `layout`'s, which the worker takes too; here are weights, adapter, optimizer, and what no formula
gives (the tokenizer, the matrix library's kernels), which was measured on SmolLM2-135M on a CPU and is named as such.
Symbols: h hidden, L layers, V vocabulary, r rank, N packed tokens of the largest micro-batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_svc.jobs.workspace import Phase
from trainer_svc.memory.generation import count_excess
from trainer_svc.memory.kernels import count_kernels
from trainer_svc.memory.layout import (
    BF16,
    FP32,
    INT8_BLOCK,
    MOMENT_PIECE,
    PackSize,
    count_attention,
    count_dense,
    count_indices,
    count_layer_scratch,
    count_loss_excess,
    count_slab,
    count_tape,
)
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Home, MomentPrecision, Techniques

# NF4 with double quantisation: half a byte, one byte of scale for 64 values, 4 bytes of scale for 256 of those scales.
NF4_CODE_BYTES = 0.5
NF4_SCALE_BYTES = 1 / 64 + 4 / (64 * 256)
# Measured: tokenizers and rows, for each entry of the vocabulary, on SmolLM2's 49,152 and by a line from there to Gemma's 262,144, of
# whose heap less is used again; small objects, and holes of the heap.
TOKENIZER_BYTES = 250
LARGE_TOKENIZER_BYTES, _REUSED_HEAP_BYTES = 860, 30_000_000
SLACK_BYTES = 8_000_000
CUDA_SLACK_BYTES = 46_000_000
# What a limit must have beyond a prediction on CUDA, where nothing was measured yet.
CUDA_MARGIN_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job takes: the terms of a training step, which add up to its peak, and the peak of each phase."""

    terms: dict[str, int]
    phases: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        """The largest phase."""
        return max(self.phases.values())


def estimate(
    shape: ModelShape,
    techniques: Techniques,
    packs: Sequence[PackSize],
    *,
    rank: int,
    device: DeviceKind,
    num_sizes: tuple[int, int],
    residual_bytes: int = 0,
    longest_judged: int = 0,
) -> Estimate:
    """Return what a job takes whose largest micro-batches are `packs`, and of which `layout.count_sizes` counts `num_sizes`.

    `loss` is what the loss takes beyond a layer's backward pass, whose scratch it shares; `dequantised_weight` is part of neither.
    `residual_bytes` is what earlier jobs took beyond the prediction; however little, half of the context is kept. Where the base is
    trained itself, it is the `adapter`. Judging generates answers in the tape's memory, which may be too small for one row of
    `longest_judged` tokens.
    """
    trains_base = techniques.base is BasePrecision.TRAINED
    rank = 0 if trains_base else rank
    num_adapter = shape.num_linear + shape.num_other if trains_base else shape.count_adapter(rank)
    without = max(_scratch(shape, techniques, pack, rank, device)[0] for pack in packs)
    layer = max(_layer(shape, techniques, pack, rank, device) for pack in packs)
    loss = max(max(_scratch(shape, techniques, pack, rank, device)[1] for pack in packs) - layer, 0)
    num_nodes = max(pack.nodes for pack in packs)
    record, shared = count_tape(shape, techniques, num_nodes, rank)
    context = _count_context(shape, techniques, num_sizes, device)
    terms = {
        "frozen_weights": count_frozen(shape, techniques),
        "adapter": (FP32 + BF16) * num_adapter,
        "gradients": FP32 * num_adapter,
        "optimizer": count_moments(num_adapter, techniques),
        "checkpoints": record,
        "layer_activations": shared,
        "backward_transients": without,
        "dequantised_weight": layer - without + count_slab(shape, techniques),
        "loss": loss,
        "context": max(context + residual_bytes, context // 2),
    }
    step = sum(terms.values())
    excess = count_excess(shape, techniques, rank=rank, step_nodes=num_nodes, longest_row=longest_judged)
    held = sum(terms[name] for name in ("frozen_weights", "adapter", "gradients", "optimizer", "context"))
    phases = {
        Phase.LOAD: step,
        Phase.STEP: step,
        Phase.EVALUATE: step
        + max(0, excess - count_spare(shape, techniques, rank=rank, num_sizes=num_sizes, device=device)),
        # Rounded to bf16 once, and once more where safetensors lays the file out.
        Phase.SAVE: held + 2 * BF16 * num_adapter,
    }
    return Estimate(terms, {str(phase): size for phase, size in phases.items()})


def count_spare(
    shape: ModelShape, techniques: Techniques, *, rank: int, num_sizes: tuple[int, int], device: DeviceKind
) -> int:
    """Return what gradients and moments leave to judging, which comes after them, less the kernels of the size that answering adds.

    Negative where those kernels take more, which a CPU makes in place of others only once it has as many as it keeps.
    """
    num_adapter, (nodes, attentions) = shape.count_adapter(rank), num_sizes
    freed = FP32 * num_adapter + count_moments(num_adapter, techniques)
    if device is DeviceKind.CUDA:
        return freed
    more = count_kernels(shape, techniques, nodes + 1, attentions + 1)
    return freed - (more - count_kernels(shape, techniques, nodes, attentions))


def count_margin(shape: ModelShape, techniques: Techniques, device: DeviceKind) -> int:
    """Return what a limit must have beyond a prediction, which is as often a little too low as too high.

    Which rows begin alike is not known to a plan beyond what all share, so a CPU may meet one size more than was counted.
    """
    return CUDA_MARGIN_BYTES if device is DeviceKind.CUDA else count_kernels(shape, techniques, 1, 1)


def count_frozen(shape: ModelShape, techniques: Techniques) -> int:
    """Return what the frozen base takes on the device: tables and norms in bf16, and the linear layers as they are held.

    NF4: 0.5 + 1/64 + 4/16384 bytes a parameter (Dettmers et al. 2023); int8: 1, and 4 for each output; offloaded NF4 leaves scales.
    """
    tables, num_linear, is_away = BF16 * shape.num_other, shape.num_linear, techniques.frozen_home is not Home.DEVICE
    match techniques.base:
        case BasePrecision.TRAINED:
            return 0
        case BasePrecision.NF4:
            return tables + round(num_linear * (NF4_SCALE_BYTES + (0 if is_away else NF4_CODE_BYTES)))
        case BasePrecision.INT8:
            outputs = shape.num_layers * sum(sum(outs) for _, outs in shape.groups.values())
            return tables + num_linear + FP32 * outputs
        case _:
            return tables + (0 if is_away else BF16 * num_linear)


def count_moments(num_adapter: int, techniques: Techniques) -> int:
    """Return what Adam's two moments take on the device: 8 bytes a parameter in fp32; in 8 bits 2, and two fp32 scales for 256."""
    present = num_adapter if techniques.moments_home is Home.DEVICE else min(num_adapter, MOMENT_PIECE)
    if techniques.moments is MomentPrecision.INT8:
        # The update widens one piece: both moments, gradient, weights and two products.
        return 2 * present + 2 * FP32 * -(-num_adapter // INT8_BLOCK) + 6 * FP32 * min(num_adapter, MOMENT_PIECE)
    return 2 * FP32 * present


def _layer(shape: ModelShape, techniques: Techniques, pack: PackSize, rank: int, device: DeviceKind) -> int:
    beside = count_indices(shape, pack) + count_attention(shape, techniques, pack, device)
    return count_layer_scratch(shape, techniques, pack, rank=rank, device=device) + beside


def _scratch(
    shape: ModelShape, techniques: Techniques, pack: PackSize, rank: int, device: DeviceKind
) -> tuple[int, int]:
    """Return a layer's scratch were all weights there in bf16, and the scratch of layer and loss."""
    layer = _layer(shape, techniques, pack, rank, device)
    dense = max(count_dense(shape, techniques, group) for group in shape.groups)
    return max(0, layer - dense), layer + count_loss_excess(shape, techniques, pack, rank=rank, device=device)


def _count_context(shape: ModelShape, techniques: Techniques, num_sizes: tuple[int, int], device: DeviceKind) -> int:
    """Return what no formula gives. On CUDA the context is the baseline's, and kernels are the device's own."""
    if device is DeviceKind.CUDA:
        return CUDA_SLACK_BYTES
    vocabulary = max(TOKENIZER_BYTES * shape.vocab_size, LARGE_TOKENIZER_BYTES * shape.vocab_size - _REUSED_HEAP_BYTES)
    return vocabulary + count_kernels(shape, techniques, *num_sizes) + SLACK_BYTES
