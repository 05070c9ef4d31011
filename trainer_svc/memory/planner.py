"""Picks the fastest way to train that fits a memory limit, or names the smallest limit that would do.

Owns the order of techniques and the ladder a job climbs when its plan fails; what each takes is `estimator`'s.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from adaptory.core.errors import DoesNotFit
from trainer_svc.jobs.workspace import Rung
from trainer_svc.memory.estimator import Estimate, estimate
from trainer_svc.memory.layout import SIZE_MULTIPLE, WIDTH_MULTIPLE, PackSize
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import (
    BasePrecision,
    DeviceKind,
    Home,
    MomentPrecision,
    Recompute,
    Techniques,
    away_from,
)

_SMALL_LOSS_BLOCK = 32


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the memory of a job depends on, besides its base.

    `batches` has the lengths, in tokens, of the rows of each optimizer step in order, and of those held out; `shared_tokens` is how
    many first tokens all rows have in common.
    """

    limit_bytes: int
    rank: int
    batch_rows: int
    batches: Sequence[Sequence[int]]
    shared_tokens: int = 0
    device: DeviceKind = DeviceKind.CPU
    may_offload: bool = True
    residual_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a job keeps its limit; `terms` add up to the peak of a step. The effective batch is the same in every plan."""

    techniques: Techniques
    terms: dict[str, int]
    phases: dict[str, int]
    accumulation: int
    smallest_limit_bytes: int
    rungs: tuple[Rung, ...]

    @property
    def predicted_peak_bytes(self) -> int:
        """The largest phase."""
        return max(self.phases.values())


def plan_memory(shape: ModelShape, request: PlanRequest) -> MemoryPlan:
    """Return the first plan that fits, in the order of speed.

    Raises:
        DoesNotFit: None does; metadata has `limit_bytes` and `smallest_limit_bytes`.
        ValueError: There are no rows.
    """
    if not any(request.batches):
        raise ValueError("a plan needs at least one row")
    cutter = _Cutter(shape, request)
    candidates = [(techniques, cutter.estimate(techniques)) for techniques in _order(request)]
    smallest = min(found.peak_bytes for _, found in candidates)
    for techniques, found in candidates:
        if found.peak_bytes <= request.limit_bytes:
            return MemoryPlan(
                techniques=techniques,
                terms=found.terms,
                phases=found.phases,
                accumulation=-(-request.batch_rows // techniques.micro_batch_rows),
                smallest_limit_bytes=smallest,
                rungs=build_ladder(techniques, cutter.estimate, request.device),
            )
    raise DoesNotFit(
        f"no plan fits in {request.limit_bytes:,} bytes; the smallest limit that would do is {smallest:,}."
        " Raise the limit, or train with a lower rank or shorter rows",
        metadata={"limit_bytes": request.limit_bytes, "smallest_limit_bytes": smallest},
    )


def build_ladder(plan: Techniques, price: Callable[[Techniques], Estimate], device: DeviceKind) -> tuple[Rung, ...]:
    """Return the plan and what to go on with when memory runs out: each rung trains the same numbers in less memory than the last.

    In order: smaller micro-batches, recomputation, a smaller block of the loss, offloaded activations, the base in 4 bits, paged
    moments, streamed layers.
    """
    rungs = [Rung(plan, price(plan).phases)]
    for techniques in _climb(plan, device):
        phases = price(techniques).phases
        if max(phases.values()) < rungs[-1].predicted_peak_bytes:
            rungs.append(Rung(techniques, phases))
    return tuple(rungs)


def _climb(techniques: Techniques, device: DeviceKind) -> Iterator[Techniques]:
    """Yield ever smaller techniques, each a change of the one before."""
    while techniques.micro_batch_rows > 1:
        techniques = replace(techniques, micro_batch_rows=techniques.micro_batch_rows // 2)
        yield techniques
    away = away_from(device)
    techniques = replace(techniques, recompute=Recompute.FULL)
    yield techniques
    techniques = replace(techniques, loss_block_tokens=_SMALL_LOSS_BLOCK)
    yield techniques
    techniques = replace(techniques, activations_home=away)
    yield techniques
    if techniques.base is BasePrecision.PARITY_BF16:
        techniques = replace(techniques, base=BasePrecision.NF4)
        yield techniques
    techniques = replace(techniques, moments_home=away)
    yield techniques
    if techniques.base is not BasePrecision.INT8:
        yield replace(techniques, frozen_home=away)


def _order(request: PlanRequest) -> Iterator[Techniques]:
    """Yield the ways to run a job, fastest first.

    On a CPU the bf16 base saves 4 % of a step over NF4. Whole batches come before recomputing, and both before smaller micro-batches;
    8-bit moments, which alone change the numbers, before anything leaves the device.
    """
    precisions = [BasePrecision.NF4]
    if request.device is DeviceKind.CPU:
        precisions.insert(0, BasePrecision.PARITY_BF16)
    micro_batches = [request.batch_rows]
    while micro_batches[-1] > 1:
        micro_batches.append(micro_batches[-1] // 2)
    for rows in micro_batches:
        for recompute in Recompute:
            yield from (Techniques(precision, rows, recompute) for precision in precisions)
    tightest = Techniques(BasePrecision.NF4, 1, Recompute.FULL)
    small_loss = replace(tightest, loss_block_tokens=_SMALL_LOSS_BLOCK)
    small_moments = replace(small_loss, moments=MomentPrecision.INT8)
    yield from (small_loss, small_moments)
    if request.may_offload:
        yield from _offload(small_loss, away_from(request.device))


def _offload(techniques: Techniques, away: Home) -> Iterator[Techniques]:
    techniques = replace(techniques, activations_home=away)
    yield techniques
    techniques = replace(techniques, moments_home=away)
    yield techniques
    yield replace(techniques, frozen_home=away)


class _Cutter:
    """Prices techniques for one job; the packs of a micro-batch size are found once."""

    def __init__(self, shape: ModelShape, request: PlanRequest) -> None:
        self._shape = shape
        self._request = request
        self._packs: dict[int, list[PackSize]] = {}

    def estimate(self, techniques: Techniques) -> Estimate:
        rows = techniques.micro_batch_rows
        if rows not in self._packs:
            self._packs[rows] = _find_extremes(_cut(self._request, rows))
        request = self._request
        return estimate(
            self._shape,
            techniques,
            self._packs[rows],
            rank=request.rank,
            device=request.device,
            residual_bytes=request.residual_bytes,
        )


def _cut(request: PlanRequest, micro_batch_rows: int) -> Iterator[PackSize]:
    for batch in request.batches:
        for begin in range(0, len(batch), micro_batch_rows):
            yield _measure(batch[begin : begin + micro_batch_rows], request.shared_tokens)


def _measure(lengths: Sequence[int], shared_tokens: int) -> PackSize:
    """Return the pack of rows of these lengths; nearly all of their tokens may be learned."""
    copies = shared_tokens * (len(lengths) - 1)
    nodes, width = sum(lengths) - copies, max(lengths)
    return PackSize(
        nodes=_round_up(nodes, SIZE_MULTIPLE),
        rows=len(lengths),
        width=_round_up(width if len(lengths) > 1 else nodes, WIDTH_MULTIPLE if len(lengths) > 1 else SIZE_MULTIPLE),
        learned=_round_up(nodes, SIZE_MULTIPLE),
        copies=copies,
    )


def _find_extremes(packs: Iterable[PackSize]) -> list[PackSize]:
    """Return one pack of each number of nodes: of those, the one with the most places."""
    largest: dict[int, PackSize] = {}
    for pack in packs:
        if pack.nodes not in largest or pack.places > largest[pack.nodes].places:
            largest[pack.nodes] = pack
    return sorted(largest.values(), key=lambda pack: pack.nodes)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
