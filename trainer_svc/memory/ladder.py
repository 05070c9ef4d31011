"""What a job goes on with when its plan runs out of memory: the same numbers, in less memory, rung by rung."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from trainer_svc.jobs.workspace import Rung
from trainer_svc.memory.candidates import LOSS_BLOCKS, halve
from trainer_svc.memory.estimator import Estimate
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Recompute, Techniques, away_from


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
    for rows in halve(techniques.micro_batch_rows)[1:]:
        techniques = replace(techniques, micro_batch_rows=rows)
        yield techniques
    away = away_from(device)
    for recompute in (Recompute.SELECTIVE, Recompute.FULL):
        if techniques.recompute is not Recompute.FULL:
            techniques = replace(techniques, recompute=recompute)
            yield techniques
    techniques = replace(techniques, loss_block_tokens=LOSS_BLOCKS[-1])
    yield techniques
    techniques = replace(techniques, activations_home=away)
    yield techniques
    if techniques.base is BasePrecision.PARITY_BF16:
        techniques = replace(techniques, base=BasePrecision.NF4)
        yield techniques
    techniques = replace(techniques, moments_home=away)
    yield techniques
    if techniques.base not in (BasePrecision.INT8, BasePrecision.TRAINED):
        yield replace(techniques, frozen_home=away)
