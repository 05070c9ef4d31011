"""What a worker does, from rows to a staged adapter."""

from importlib.metadata import version
from pathlib import Path

import torch

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Renderer
from trainer_svc.jobs.workspace import BasePrecision, ExitCode, Phase, WorkerResult, WorkerSpec, Workspace
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.base import FrozenBase, check_parity, load_base
from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.device import describe_device, keep_heap
from trainer_svc.worker.evaluate import mean_loss
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import count_nodes
from trainer_svc.worker.rows import Rows, load_rows
from trainer_svc.worker.stage import stage_adapter
from trainer_svc.worker.tape import Tape
from trainer_svc.worker.train import count_steps, cut_rows, cut_steps, train

_RECORDED_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "adaptory")


def run(spec: WorkerSpec, workspace: Workspace, device: torch.device, meter: Meter) -> WorkerResult:
    """Train, judge and stage one adapter; return what was measured.

    Raises:
        InvalidRequest: The rows cannot be trained on.
        AdapterRejected: The trained adapter must not be served.
        MemoryError, torch.OutOfMemoryError, RuntimeError: The limit was hit.
    """
    settings, cut = spec.training, spec.memory.micro_batch_rows
    prepared = PreparedBase.open(Path(spec.base_dir))
    with meter.measure(Phase.LOAD):
        rows, held_out = _load_rows(spec, prepared)
        base = _load_base(prepared, spec.memory.base_precision, device)
        adapter = Adapter(base, settings, prepared.name)
        tape = _take_tape(spec, base, rows, held_out)
        decoder, bare = Decoder(base, adapter, tape), Decoder(base, None, tape)
        num_steps = count_steps(len(rows.rows), settings)
        optimizer = Optimizer(adapter, settings, num_steps)
    keep_heap()
    with meter.measure(Phase.STEP):
        train(decoder, optimizer, cut_steps(rows.rows, settings, cut), num_steps, device, meter)
        seconds, tokens_per_second = meter.phase_seconds, meter.tokens_per_second
    with meter.measure(Phase.EVALUATE):
        # Frozen values and adapter copies are those that are served, so this is the loss a tenant gets.
        judged = cut_rows(held_out.rows, cut)
        base_loss, adapter_loss = (mean_loss(model, judged, device, meter) for model in (bare, decoder))
    with meter.measure(Phase.SAVE):
        report = stage_adapter(adapter, workspace.adapter_dir, base.shape, spec.max_adapter_rank)
    return WorkerResult(
        exit_code=ExitCode.SUCCEEDED,
        base_loss=base_loss,
        adapter_loss=adapter_loss,
        train_seconds=seconds,
        tokens_per_second=tokens_per_second,
        num_train_rows=len(rows.rows),
        num_held_out_rows=len(held_out.rows),
        num_train_tokens=rows.num_tokens,
        device=describe_device(device),
        versions={library: version(library) for library in _RECORDED_LIBRARIES},
        adapter_digest=report.digest,
        rank=report.rank,
        train_losses=meter.train_losses,
        num_steps=len(meter.train_losses),
        peak_bytes=meter.peak_bytes,
        phase_peak_bytes=meter.phase_peak_bytes,
    )


def _load_rows(spec: WorkerSpec, prepared: PreparedBase) -> tuple[Rows, Rows]:
    renderer = Renderer.from_files(prepared.tokenizer_file, prepared.chat_template, prepared.end_of_turn)
    limit = spec.training.max_row_tokens
    return load_rows(Path(spec.train_rows), renderer, limit), load_rows(Path(spec.held_out_rows), renderer, limit)


def _take_tape(spec: WorkerSpec, base: FrozenBase, rows: Rows, held_out: Rows) -> Tape:
    """Take memory for the largest pack of the whole job: a job that would not fit fails before its first step."""
    cut = spec.memory.micro_batch_rows
    steps = [*cut_steps(rows.rows, spec.training, cut), cut_rows(held_out.rows, cut)]
    return Tape(
        base.shape,
        rank=spec.training.rank,
        max_nodes=max(count_nodes(micro_batch) for micro_batches in steps for micro_batch in micro_batches),
        num_slots=1 if spec.memory.checkpointing else base.shape.num_layers,
        has_head_norms=base.layers[0].query_norm is not None,
        device=base.device,
    )


def _load_base(prepared: PreparedBase, precision: BasePrecision, device: torch.device) -> FrozenBase:
    if precision is BasePrecision.PARITY_BF16:
        return load_base(prepared.parity_dir, precision, device)
    base = load_base(prepared.original_dir, precision, device)
    check_parity(base, prepared.parity_dir)
    return base
