"""How long a job takes, from its workload and the device's speed: what orders plans that fit.

A sum of what the device does one after the other. Symbols: P linear parameters, T trained ones, V vocabulary, h hidden, L layers; a
*pass* goes through all linear layers once. Bytes and operations that are counted are those of `worker/layer` and its parts.
"""

from trainer_svc.memory.generation import MAX_ROWS
from trainer_svc.memory.layout import BF16, FP32, lay_out_tape
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import (
    BasePrecision,
    DeviceKind,
    Home,
    Method,
    MomentPrecision,
    Objective,
    Recompute,
    Techniques,
)
from trainer_svc.memory.workload import Work, Workload

# Two operations for each multiply-add.
_MULTIPLY_ADD = 2
# An adapter is read forward, and backward for its own gradient and its input's.
_ADAPTER_PASSES = 3
# The plain kernel's backward pass makes scores again, then their gradient and that of q, k and v.
_ATTENTION_BACKWARD = 2.5
_ATTENTION_PRODUCTS = 2
# Element-wise traffic of a node in one layer, forward and backward, in bytes for each element of its widths (counted in `layer`).
_TOUCHED_HIDDEN, _TOUCHED_INNER, _TOUCHED_HEADS = 60, 40, 60
_OPERATIONS_PER_LAYER = 110
# Gradient, master, copy and both moments, read and written; and what widening 8-bit moments adds.
_UPDATE_BYTES = 40
_WIDENING_BYTES = 24
_MOMENT_BYTES = {MomentPrecision.FP32: 8, MomentPrecision.INT8: 2}
_STORED_BYTES = {BasePrecision.NF4: 0.5}
_JUDGEMENTS = 2
# Of the longest row, how much is taken to be its answer.
_ANSWER_SHARE = 0.5
# What the CPU's matrix library takes to make the kernels of one size (measured on two cores, whatever the model).
_KERNEL_SECONDS = 0.09


def predict_seconds(shape: ModelShape, techniques: Techniques, workload: Workload, request: PlanRequest) -> float:
    """Return the seconds of all optimizer steps, of the measurements between them, and of the judgement.

    What loading and saving take is left out.
    """
    passes = _count_passes(shape, techniques, request)
    clock = _Clock(shape, techniques, request)
    num_kernels = _count_kernels_made(techniques, workload, request.num_measurements)
    kernels = _KERNEL_SECONDS * num_kernels if request.device is DeviceKind.CPU else 0.0
    num_trained = _trained(shape, request)
    measuring = request.num_measurements * clock.measure(workload.measured, num_trained)
    judging = _JUDGEMENTS * (clock.run(workload.judged, passes=1.0, backward=0.0) + clock.answer(workload))
    return (
        clock.run(workload.trained, passes, backward=1.0)
        + kernels
        + measuring
        + judging
        + workload.num_steps * clock.update(num_trained)
    )


def _trained(shape: ModelShape, request: PlanRequest) -> int:
    return shape.num_linear + shape.num_other if request.method is Method.FULL else shape.count_adapter(request.rank)


def _count_passes(shape: ModelShape, techniques: Techniques, request: PlanRequest) -> float:
    """Forward, backward to the inputs (and to the weights where these are trained), recomputed, and the reference's of a pair."""
    num_in, outs = shape.groups["gate_up"]
    selective = shape.num_layers * num_in * sum(outs) / shape.num_linear
    recomputed = {Recompute.NONE: 0.0, Recompute.SELECTIVE: selective, Recompute.FULL: 1.0}[techniques.recompute]
    own = 1.0 if request.method is Method.FULL else 0.0
    reference = 1.0 if request.objective is Objective.PREFERENCE else 0.0
    return 2.0 + own + recomputed + reference


def _count_kernels_made(techniques: Techniques, workload: Workload, num_measurements: int) -> float:
    """Return how often kernels are made: once for each size, and again for the share of later packs whose size is not kept."""
    num_sizes = max(1, workload.num_sizes[0])
    num_packs = workload.trained.num_packs + num_measurements * workload.measured.num_packs
    share_kept = min(1.0, techniques.kernel_sizes / num_sizes)
    return num_sizes + max(0, num_packs - num_sizes) * (1 - share_kept)


class _Clock:
    """Times one base, under one set of techniques, on one device."""

    def __init__(self, shape: ModelShape, techniques: Techniques, request: PlanRequest) -> None:
        self._shape = shape
        self._techniques = techniques
        self._rank = 0 if request.method is Method.FULL else request.rank
        self._speed = request.effective_speed

    def run(self, work: Work, passes: float, backward: float) -> float:
        """Return the seconds of so many passes over packs; `backward` is 1 where gradients are taken, else 0."""
        return (
            self._products(work, passes, backward) / self._speed.product_flops
            + self._touched(work, passes, backward) / self._speed.touched_bytes
            + work.num_packs * passes * self._read_weights()
            + work.num_packs * passes * self._shape.num_layers * _OPERATIONS_PER_LAYER / 2 * self._speed.operation_s
            + self._move_activations(work) * backward
        )

    def measure(self, work: Work, num_trained: int) -> float:
        """Return the seconds of one measurement: forward passes, and the adapter's fp32 values to a file."""
        return self.run(work, passes=1.0, backward=0.0) + FP32 * num_trained / self._speed.moved_bytes

    def answer(self, workload: Workload) -> float:
        """Return the seconds of answering, without reading prompts: each step reads all weights for a token of MAX_ROWS rows."""
        num_steps = -(-workload.num_answered // MAX_ROWS) * _ANSWER_SHARE * workload.longest_judged
        head = BF16 * self._shape.vocab_size * self._shape.hidden_size / self._speed.touched_bytes
        operations = self._shape.num_layers * _OPERATIONS_PER_LAYER / 2 * self._speed.operation_s
        return num_steps * (self._read_weights() + head + operations)

    def update(self, num_trained: int) -> float:
        """Return the seconds of one update."""
        precision = self._techniques.moments
        widening = _WIDENING_BYTES if precision is MomentPrecision.INT8 else 0
        seconds = num_trained * (_UPDATE_BYTES + widening) / self._speed.touched_bytes
        if self._techniques.moments_home is not Home.DEVICE:
            seconds += 2 * num_trained * _MOMENT_BYTES[precision] / self._speed.moved_bytes
        return seconds

    def _products(self, work: Work, passes: float, backward: float) -> float:
        shape, head = self._shape, self._shape.vocab_size * self._shape.hidden_size
        adapter = shape.count_adapter(self._rank) * (1 + backward * (_ADAPTER_PASSES - 1))
        of_node = shape.num_linear * passes + adapter + head * (1 + backward)
        again = passes - 2 * backward if self._techniques.recompute is Recompute.FULL else 0.0
        attention = _ATTENTION_PRODUCTS * (1 + backward * _ATTENTION_BACKWARD + max(again, 0.0))
        of_pair = shape.num_layers * shape.query_size * attention
        return _MULTIPLY_ADD * (of_node * work.nodes + of_pair * work.attended)

    def _touched(self, work: Work, passes: float, backward: float) -> float:
        shape = self._shape
        widths = (
            _TOUCHED_HIDDEN * shape.hidden_size
            + _TOUCHED_INNER * shape.intermediate_size
            + _TOUCHED_HEADS * (shape.query_size + 2 * shape.kv_size)
        )
        # Scores are written, weighed and read again.
        scores = 4 * BF16 * shape.num_heads * work.attended * (1 + _ATTENTION_BACKWARD * backward)
        blocks = work.nodes / self._techniques.loss_block_tokens * (1 + backward)
        head = BF16 * shape.vocab_size * (shape.hidden_size * blocks + 8 * work.nodes * (1 + backward))
        return shape.num_layers * (widths * work.nodes * passes / 2 + scores) + head

    def _read_weights(self) -> float:
        """Return the seconds in which one pass reads the linear layers, wherever they are and however they are held."""
        techniques, num_linear = self._techniques, self._shape.num_linear
        seconds = BF16 * num_linear / self._speed.touched_bytes
        if techniques.base in (BasePrecision.NF4, BasePrecision.INT8):
            seconds += num_linear / self._speed.dequantised_values
        if techniques.frozen_home is not Home.DEVICE:
            seconds += num_linear * _STORED_BYTES.get(techniques.base, BF16) / self._speed.moved_bytes
        return seconds

    def _move_activations(self, work: Work) -> float:
        if self._techniques.activations_home is Home.DEVICE:
            return 0.0
        widths = lay_out_tape(self._shape, self._rank, self._techniques.recompute).record
        return 2 * BF16 * work.nodes * self._shape.num_layers * sum(widths.values()) / self._speed.moved_bytes
