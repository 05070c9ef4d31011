"""What a worker does with an adapter that is given: nothing is trained, base and adapter are judged as at the end of a training."""

from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from adaptory.core.adapter_check import AdapterLimits, check_adapter
from adaptory.core.base_model import PreparedBase
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.jobs.workspace import ExitCode, Phase, WorkerResult, WorkerSpec, Workspace
from trainer_svc.worker.choice import Chooser
from trainer_svc.worker.device import Memory, describe_device
from trainer_svc.worker.evaluate import Judge
from trainer_svc.worker.general import cut_general_rows
from trainer_svc.worker.ladder import Ladder
from trainer_svc.worker.loss_scale import choose_scaling
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.pipeline import leave_answers, read_versions
from trainer_svc.worker.rig import Batches, Rig
from trainer_svc.worker.rows import load_rows


def judge_given(
    spec: WorkerSpec, workspace: Workspace, device: torch.device, memory: Memory, meter: Meter
) -> WorkerResult:
    """Judge the adapter in `spec.given_adapter`, whose ranks `spec.training` is as large as; return what was measured.

    Raises as `pipeline.run`.
    """
    prepared, folder = PreparedBase.open(Path(spec.base_dir)), Path(spec.given_adapter)
    report = check_adapter(folder, prepared.shape, AdapterLimits(max_rank=spec.max_adapter_rank))
    with meter.measure(Phase.LOAD):
        renderer = RowRenderer.of(prepared)
        held_out = load_rows(Path(spec.held_out_rows), renderer, spec.training.max_row_tokens)
        general = cut_general_rows(Tokenizer.from_file(str(prepared.tokenizer_file)), held_out)
        batches = Batches([], held_out.measured, [], general)
        rig = Rig(prepared, spec.training, batches, device, memory, workspace.folder)
        ladder = Ladder(spec.memory.rungs, rig, meter)
        ladder.load()
        rig.adapter.adopt(folder)
        rig.finish_training()
    scaling = choose_scaling(rig.techniques.compute, meter.tell)
    with meter.measure(Phase.EVALUATE):
        judge = partial(Judge(rig, held_out, general, Chooser()).judge, prepared.end_of_turn_id, meter)
        found = ladder.run(Phase.EVALUATE, judge)
        leave_answers(workspace, found, prepared, scaling)
    return WorkerResult(
        exit_code=ExitCode.SUCCEEDED,
        adapter_digest=report.digest,
        rank=report.rank,
        base_loss=found.held_out.base,
        adapter_loss=found.held_out.adapter,
        base_general_loss=found.general.base,
        adapter_general_loss=found.general.adapter,
        num_held_out_rows=len(held_out.measured),
        peak_bytes=meter.peak_bytes,
        phase_peak_bytes=meter.phase_peak_bytes,
        used_peak_bytes=meter.used_peak_bytes,
        techniques=rig.techniques,
        num_climbs=ladder.num_climbs,
        versions=read_versions(),
        receipts=renderer.sign(),
        device=describe_device(device),
    )
