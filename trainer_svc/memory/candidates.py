"""Every way to run a job: the product of its techniques, and which of them are preferred whatever their speed.

Owns preference: nothing that changes the numbers trained before all that does not, and nothing leaves the device before all that
stays (the order of 4-bit weights, checkpointing, accumulation, 8-bit moments, offload). What is computed in is no choice of a plan.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.techniques import (
    FEW_KERNEL_SIZES,
    MANY_KERNEL_SIZES,
    BasePrecision,
    DeviceKind,
    Home,
    Method,
    MomentPrecision,
    Recompute,
    Techniques,
    away_from,
)

LOSS_BLOCKS = (128, 32)
KERNEL_SIZES = (MANY_KERNEL_SIZES, FEW_KERNEL_SIZES)


def list_candidates(request: PlanRequest) -> Iterator[Techniques]:
    """Yield all techniques a job of this method may be run with."""
    kernels = KERNEL_SIZES if request.device is DeviceKind.CPU else KERNEL_SIZES[:1]
    for rows, recompute, block, kernel_sizes in product(halve(request.batch_rows), Recompute, LOSS_BLOCKS, kernels):
        for techniques in _list_holdings(request, rows, recompute, block):
            yield replace(techniques, kernel_sizes=kernel_sizes)


def list_tightest(request: PlanRequest) -> Iterator[Techniques]:
    """Yield those among which is the one that takes least."""
    for techniques in _list_holdings(request, 1, Recompute.FULL, LOSS_BLOCKS[-1]):
        yield replace(techniques, kernel_sizes=KERNEL_SIZES[-1])


def rate_preference(techniques: Techniques) -> tuple[bool, bool]:
    """Return what orders techniques before their speed does: whether they offload, and whether moments are rounded."""
    return techniques.offloads, techniques.moments is MomentPrecision.INT8


def halve(rows: int) -> list[int]:
    """Return the sizes of micro-batches a batch is cut into: itself, and halves down to one row."""
    sizes = [rows]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes


def _list_holdings(request: PlanRequest, rows: int, recompute: Recompute, block: int) -> Iterator[Techniques]:
    """Yield every way to hold base, moments and activations."""
    homes = (Home.DEVICE, away_from(request.device)) if request.may_offload else (Home.DEVICE,)
    for base, moments, (moments_home, activations_home, frozen_home) in product(
        _list_bases(request), MomentPrecision, product(homes, repeat=3)
    ):
        techniques = Techniques(
            base,
            rows,
            recompute,
            block,
            moments,
            moments_home,
            activations_home,
            frozen_home,
            compute=request.compute,
        )
        if techniques.frozen_home is Home.DEVICE or base not in (BasePrecision.INT8, BasePrecision.TRAINED):
            yield techniques


def _list_bases(request: PlanRequest) -> tuple[BasePrecision, ...]:
    """Return how a method may hold its base. On a device memory is dear and dequantising cheap: never parity weights there."""
    match request.method:
        case Method.QLORA if request.device is DeviceKind.CPU:
            return (BasePrecision.PARITY_BF16, BasePrecision.NF4)
        case Method.QLORA:
            return (BasePrecision.NF4,)
        case Method.LORA:
            return (BasePrecision.BF16, BasePrecision.INT8)
        case Method.FULL:
            return (BasePrecision.TRAINED,)
