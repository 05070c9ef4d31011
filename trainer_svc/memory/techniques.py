"""The memory techniques of a training job: each a switch, priced by the estimator, followed by the worker.

Owns their names and which of them a device has. What they save is `estimator`'s, which to take `planner`'s, doing it the worker's.
"""

import enum
from dataclasses import dataclass

MANY_KERNEL_SIZES, FEW_KERNEL_SIZES = 6, 2
# The compute capability from which on NVIDIA's cards multiply in bf16 (CUDA C++ Programming Guide, arithmetic instructions).
_BF16_CAPABILITY = (8, 0)


class DeviceKind(enum.StrEnum):
    """Where a job runs."""

    CPU = "cpu"
    CUDA = "cuda"


class Method(enum.StrEnum):
    """What is trained: an adapter on a quantised base, an adapter on the original base, or all weights."""

    QLORA = "qlora"
    LORA = "lora"
    FULL = "full"


class Objective(enum.StrEnum):
    """What a row teaches: its own tokens, or the better of two answers (a preference pair)."""

    SFT = "sft"
    PREFERENCE = "preference"


class BasePrecision(enum.StrEnum):
    """How the base is held.

    QLoRA: 4-bit NF4 with double quantisation, or bf16 at the very same values (parity). LoRA: the original values in bf16, or rounded
    to int8 with a scale for each row. Full fine-tuning trains the base itself: fp32 masters with bf16 copies.
    """

    NF4 = "nf4"
    PARITY_BF16 = "parity_bf16"
    BF16 = "bf16"
    INT8 = "int8"
    TRAINED = "trained"


class ComputePrecision(enum.StrEnum):
    """What is computed in; both take two bytes a value.

    fp16 has a smaller range than bf16, so gradients are scaled on the way. It is for cards without bf16, which have no FlashAttention
    either: with fp16, attention holds blocks of scores, as on a CPU.
    """

    BF16 = "bf16"
    FP16 = "fp16"


class Recompute(enum.StrEnum):
    """Gradient checkpointing, by what is computed again in the backward pass.

    Nothing; each layer's gate and up products (selective); or each layer as a whole (full).
    """

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class MomentPrecision(enum.StrEnum):
    """How Adam's two moments are held: fp32, or 8-bit in blocks of 256."""

    FP32 = "fp32"
    INT8 = "int8"


class Home(enum.StrEnum):
    """Where something lies while it is not computed with: on the device, in the host's memory, or in a file of the workspace.

    Off the device it is paged through the device piece by piece. On a CPU the device's memory is the host's: its only other home is
    the disk.
    """

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Techniques:
    """One way to run a job. The effective batch is the same in all of them; a batch is cut into micro-batches of `micro_batch_rows`.

    `kernel_sizes` is for how many sizes of micro-batches a CPU's matrix library keeps its kernels; others are made again each time.
    Of these, only `base` (between values that differ) and `moments` change the numbers trained, beyond rounding. `compute` rounds
    otherwise, and is the device's to choose, never a plan's.
    """

    base: BasePrecision
    micro_batch_rows: int
    recompute: Recompute = Recompute.NONE
    loss_block_tokens: int = 128
    moments: MomentPrecision = MomentPrecision.FP32
    moments_home: Home = Home.DEVICE
    activations_home: Home = Home.DEVICE
    frozen_home: Home = Home.DEVICE
    kernel_sizes: int = MANY_KERNEL_SIZES
    compute: ComputePrecision = ComputePrecision.BF16

    @property
    def offloads(self) -> bool:
        """Whether anything leaves the device."""
        return {self.moments_home, self.activations_home, self.frozen_home} != {Home.DEVICE}


def choose_compute(device: DeviceKind, capability: tuple[int, int] | None) -> ComputePrecision:
    """Return what a device computes in: a CUDA card below compute capability 8.0 in fp16, all else in bf16.

    A CPU has no capability; a card's is major and minor.
    """
    is_older = device is DeviceKind.CUDA and capability is not None and capability < _BF16_CAPABILITY
    return ComputePrecision.FP16 if is_older else ComputePrecision.BF16


def holds_scores(techniques: Techniques, device: DeviceKind) -> bool:
    """Return whether attention holds blocks of its scores: all but FlashAttention does, which CUDA has in bf16."""
    return device is DeviceKind.CPU or techniques.compute is ComputePrecision.FP16


def away_from(device: DeviceKind) -> Home:
    """Return where a device offloads to: CUDA to the host's memory, a CPU to disk."""
    return Home.HOST if device is DeviceKind.CUDA else Home.DISK


def describe(techniques: Techniques) -> str:
    """Return techniques in a few words for people, such as `base in nf4, micro-batches of 4 rows, full recomputation`."""
    parts = [
        "all weights trained"
        if techniques.base is BasePrecision.TRAINED
        else f"base in {techniques.base}" + _tell_home(techniques.frozen_home),
        f"micro-batches of {techniques.micro_batch_rows} row{'' if techniques.micro_batch_rows == 1 else 's'}",
        f"{techniques.recompute} recomputation",
        f"activations{_tell_home(techniques.activations_home)}"
        if techniques.activations_home is not Home.DEVICE
        else "",
        f"{techniques.moments} moments" + _tell_home(techniques.moments_home),
        f"loss in blocks of {techniques.loss_block_tokens} tokens",
        "computed in fp16 with a scaled loss" if techniques.compute is ComputePrecision.FP16 else "",
        f"kernels of {techniques.kernel_sizes} sizes kept" if techniques.kernel_sizes < MANY_KERNEL_SIZES else "",
    ]
    return ", ".join(part for part in parts if part)


def _tell_home(home: Home) -> str:
    return "" if home is Home.DEVICE else f" on {home}"
