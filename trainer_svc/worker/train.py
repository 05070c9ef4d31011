"""The training loop: batches, micro-batches, gradients, one update each."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import count_learned, pack_rows
from trainer_svc.worker.rows import count_batches, order_batches

MicroBatch = Sequence[RenderedRow]


def count_steps(num_rows: int, settings: TrainingSettings) -> int:
    """Return the optimizer steps of a job."""
    num_batches = count_batches(num_rows, batch_rows=settings.batch_rows, epochs=settings.epochs)
    return min(num_batches, settings.max_steps or num_batches)


def cut_steps(
    rows: Sequence[RenderedRow], settings: TrainingSettings, micro_batch_rows: int
) -> Iterator[list[MicroBatch]]:
    """Yield the micro-batches of each optimizer step."""
    batches = order_batches(rows, batch_rows=settings.batch_rows, epochs=settings.epochs, seed=settings.seed)
    for batch in islice(batches, count_steps(len(rows), settings)):
        yield cut_rows(batch, micro_batch_rows)


def cut_rows(rows: Sequence[RenderedRow], micro_batch_rows: int) -> list[MicroBatch]:
    """Cut rows into micro-batches."""
    return [rows[begin : begin + micro_batch_rows] for begin in range(0, len(rows), micro_batch_rows)]


def train(
    decoder: Decoder,
    optimizer: Optimizer,
    steps: Iterable[list[MicroBatch]],
    num_steps: int,
    device: torch.device,
    meter: Meter,
) -> None:
    """Run all steps. A batch cut into micro-batches has the same gradient: each token weighs the same wherever it lies."""
    for micro_batches in steps:
        num_learned = sum(map(count_learned, micro_batches))
        loss = 0.0
        for rows in micro_batches:
            pack = pack_rows(rows, device)
            loss += decoder.accumulate_gradients(pack, 1 / num_learned) / num_learned
            meter.count(num_rows=pack.num_rows, num_tokens=pack.num_row_tokens)
        learning_rate = optimizer.step()
        meter.report_step(num_steps=num_steps, loss=loss, learning_rate=learning_rate)
