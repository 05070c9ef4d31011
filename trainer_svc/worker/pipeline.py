"""What a worker does, from rows to a staged adapter."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer

from adaptory.core.base_model import PreparedBase
from adaptory.core.receipt import Receipt
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.jobs.workspace import ExitCode, Phase, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.held_out import list_measured_steps
from trainer_svc.worker.candidates import Candidates
from trainer_svc.worker.choice import Chooser
from trainer_svc.worker.device import Memory, describe_device
from trainer_svc.worker.evaluate import Judge, Judgement
from trainer_svc.worker.general import cut_general_rows
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.loss_scale import LossScaling, choose_scaling
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import Batches, Rig
from trainer_svc.worker.rows import Rows, load_rows, order_batches
from trainer_svc.worker.stage import stage_adapter
from trainer_svc.worker.stopping import StoppingRule
from trainer_svc.worker.train import train

_RECORDED_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "adaptory")


def run(spec: WorkerSpec, workspace: Workspace, device: torch.device, memory: Memory, meter: Meter) -> WorkerResult:
    """Train, judge and stage one adapter; return what was measured.

    Raises:
        InvalidRequest: The rows cannot be trained on.
        AdapterRejected: The trained adapter must not be served.
        FailedPrecondition: The base, or training on it, left the range of fp16, where that is computed in.
        MemoryError, torch.OutOfMemoryError, RuntimeError: The limit was hit on the last rung.
    """
    prepared = PreparedBase.open(Path(spec.base_dir))
    with meter.measure(Phase.LOAD):
        rows, held_out, receipts = _load_rows(spec, prepared)
        # Loaded only as long as it is used: it takes some tens of megabytes.
        general = cut_general_rows(Tokenizer.from_file(str(prepared.tokenizer_file)), held_out)
        measured_steps = list_measured_steps(len(rows.rows), spec.training)
        batches = Batches(list(order_batches(rows.rows, spec.training)), held_out.measured, measured_steps, general)
        rig = Rig(prepared, spec.training, batches, device, memory, workspace.folder)
        ladder = Ladder(spec.memory.rungs, rig, meter)
        ladder.load()
    scaling = choose_scaling(rig.techniques.compute, meter.tell)
    with Candidates(workspace.candidates_dir) as candidates:
        with meter.measure(Phase.STEP):
            train(rig, ladder, batches, meter, StoppingRule(spec.training.early_stopping_patience), candidates, scaling)
            seconds, tokens_per_second = meter.phase_seconds, meter.tokens_per_second
            rig.finish_training()
        with meter.measure(Phase.EVALUATE):
            chooser = Chooser(candidates.best_first, spec.max_general_rise)
            judge = Judge(rig, held_out, general, chooser)
            found = ladder.run(Phase.EVALUATE, partial(judge.judge, prepared.end_of_turn_id, meter))
            leave_answers(workspace, found, prepared, scaling)
            rig.give_back_workplace()
    if told := chooser.describe(found.choice, len(batches.steps)):
        meter.tell(told)
    with meter.measure(Phase.SAVE):
        report = stage_adapter(rig.adapter, workspace.adapter_dir, prepared.shape, spec.max_adapter_rank)
    return WorkerResult(
        exit_code=ExitCode.SUCCEEDED,
        base_loss=found.held_out.base,
        adapter_loss=found.held_out.adapter,
        base_general_loss=found.general.base,
        adapter_general_loss=found.general.adapter,
        train_seconds=seconds,
        tokens_per_second=tokens_per_second,
        num_train_rows=len(rows.rows),
        num_held_out_rows=len(held_out.measured),
        num_train_tokens=rows.num_tokens,
        device=describe_device(device),
        receipts=receipts,
        versions=read_versions(),
        adapter_digest=report.digest,
        rank=report.rank,
        train_losses=meter.train_losses,
        num_steps=len(meter.train_losses),
        best_step=found.choice.step,
        peak_bytes=meter.peak_bytes,
        phase_peak_bytes=meter.phase_peak_bytes,
        used_peak_bytes=meter.used_peak_bytes,
        techniques=rig.techniques,
        num_climbs=ladder.num_climbs,
    )


def read_versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {library: version(library) for library in _RECORDED_LIBRARIES}


def leave_answers(workspace: Workspace, found: Judgement, prepared: PreparedBase, scaling: LossScaling) -> None:
    """Leave what was answered for the runner to score. Raises FailedPrecondition where a loss left the range of fp16."""
    for loss in found.losses:
        scaling.require_finite(loss)
    tokenizer = Tokenizer.from_file(str(prepared.tokenizer_file))
    workspace.write_answers([answered.decode(tokenizer) for answered in found.answers])


def _load_rows(spec: WorkerSpec, prepared: PreparedBase) -> tuple[Rows, Rows, dict[str, Receipt]]:
    renderer = RowRenderer.of(prepared)
    train, held_out = (
        load_rows(Path(file), renderer, spec.training.max_row_tokens) for file in (spec.train_rows, spec.held_out_rows)
    )
    return train, held_out, renderer.sign()
