"""The training loop: batches, micro-batches, gradients, one update each; and which of the adapters it goes through may be kept."""

from collections.abc import Sequence
from functools import partial

from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import Phase
from trainer_svc.worker.candidates import Candidates
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.loss_scale import LossScaling
from trainer_svc.worker.measuring import measure_loss
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.packing import count_learned
from trainer_svc.worker.rig import Batches, Rig, cut_rows
from trainer_svc.worker.stopping import MIN_GAIN, StoppingRule


def train(
    rig: Rig,
    ladder: Ladder,
    batches: Batches,
    meter: Meter,
    rule: StoppingRule,
    candidates: Candidates,
    scaling: LossScaling,
) -> None:
    """Run all steps, on ever less memory where it runs out: a step that failed is begun again, so no batch is lost or seen twice.

    So is a step whose gradients overflow; raises FailedPrecondition where that does not help. Stops before the last step where the
    rule says so. Candidates are the adapters whose loss on held-out rows was the lowest so far.
    """
    ladder.run(Phase.STEP, partial(_try_largest, rig, batches))
    meter.restart_clock()
    num_steps = len(batches.steps)
    for step, batch in enumerate(batches.steps, start=1):
        loss, learning_rate = ladder.run(Phase.STEP, partial(_take_step, rig, scaling, batch))
        meter.count(num_rows=len(batch), num_tokens=sum(len(row.ids) for row in batch))
        meter.report_step(num_steps=num_steps, loss=loss, learning_rate=learning_rate)
        if step not in batches.measured_steps:
            continue
        held_out_loss = ladder.run(Phase.STEP, partial(_measure_held_out, rig, batches, meter))
        scaling.require_finite(held_out_loss)
        if rule.judge(held_out_loss):
            candidates.add(step, held_out_loss, rig.adapter)
        meter.report_held_out(held_out_loss)
        if rule.is_over and step < num_steps:
            meter.tell(_describe_stop(step, num_steps))
            break


def accumulate(rig: Rig, batch: Sequence[RenderedRow], scale: float = 1.0) -> float:
    """Set the adapter's gradients to those of `scale` times a batch's mean loss over learned tokens, and return that loss.

    Cut into micro-batches, a batch has the same gradient: each token weighs the same wherever it lies.
    """
    rig.adapter.gradients.zero_()
    decoder, num_learned = rig.decode(), count_learned(batch)
    loss = 0.0
    for rows in cut_rows(batch, rig.techniques.micro_batch_rows):
        loss += decoder.accumulate_gradients(rig.pack(rows), scale / num_learned).item() / num_learned
    return loss


def _try_largest(rig: Rig, batches: Batches) -> None:
    """Take the largest micro-batch first, to fail now rather than in an hour; its gradients are dropped."""
    accumulate(rig, batches.find_largest(rig.techniques))


def _take_step(rig: Rig, scaling: LossScaling, batch: Sequence[RenderedRow]) -> tuple[float, float]:
    """Return a batch's loss and the learning rate of the update it led to."""
    loss = scaling.differentiate(partial(accumulate, rig, batch), rig.adapter.gradients)
    learning_rate = rig.optimizer.step()
    scaling.count_step()
    return loss, learning_rate


def _measure_held_out(rig: Rig, batches: Batches, meter: Meter) -> float:
    """Return the loss on held-out rows, on the base's values that are trained on."""
    packs = cut_rows(batches.measured, rig.techniques.micro_batch_rows)
    return measure_loss(rig, rig.decode(), packs, meter.beat)


def _describe_stop(step: int, num_steps: int) -> str:
    return f"Training stopped after step {step} of {num_steps}, since the loss on held-out rows no longer falls by {MIN_GAIN:.1%}."
