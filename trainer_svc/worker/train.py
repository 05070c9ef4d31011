"""The training loop: batches, micro-batches, gradients, one update each."""

from collections.abc import Sequence
from functools import partial

from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import Phase
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.packing import count_learned
from trainer_svc.worker.rig import Batches, Rig, cut_rows


def train(rig: Rig, ladder: Ladder, batches: Batches, meter: Meter) -> None:
    """Run all steps, on ever less memory where it runs out: a step that failed is begun again, so no batch is lost or seen twice."""
    ladder.run(Phase.STEP, partial(_try_largest, rig, batches))
    meter.restart_clock()
    for batch in batches.steps:
        loss, learning_rate = ladder.run(Phase.STEP, partial(_take_step, rig, batch))
        meter.count(num_rows=len(batch), num_tokens=sum(len(row.ids) for row in batch))
        meter.report_step(num_steps=len(batches.steps), loss=loss, learning_rate=learning_rate)


def accumulate(rig: Rig, batch: Sequence[RenderedRow]) -> float:
    """Set the adapter's gradients to those of a batch and return its mean loss over learned tokens.

    Cut into micro-batches, a batch has the same gradient: each token weighs the same wherever it lies.
    """
    rig.adapter.gradients.zero_()
    decoder, num_learned = rig.decode(), count_learned(batch)
    loss = 0.0
    for rows in cut_rows(batch, rig.techniques.micro_batch_rows):
        loss += decoder.accumulate_gradients(rig.pack(rows), 1 / num_learned).item() / num_learned
    return loss


def _try_largest(rig: Rig, batches: Batches) -> None:
    """Take the largest micro-batch first, to fail now rather than in an hour; its gradients are dropped."""
    accumulate(rig, batches.find_largest(rig.techniques))


def _take_step(rig: Rig, batch: Sequence[RenderedRow]) -> tuple[float, float]:
    """Return a batch's loss and the learning rate of the update it led to."""
    loss = accumulate(rig, batch)
    return loss, rig.optimizer.step()
