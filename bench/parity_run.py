"""One trained adapter on the same prompts, on several values of its base: by the worker's own rig and judge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from adaptory.core.base_model import PreparedBase
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.jobs.scoring import evaluate_attempt
from trainer_svc.jobs.workspace import WorkerResult, WorkerSpec, Workspace
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.memory.techniques import BasePrecision, Techniques
from trainer_svc.registry.bots import BotDraft
from trainer_svc.worker.choice import Chooser
from trainer_svc.worker.device import Memory
from trainer_svc.worker.evaluate import Judge
from trainer_svc.worker.general import cut_general_rows
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import Batches, Rig
from trainer_svc.worker.rows import Rows, load_rows


@dataclass(frozen=True, slots=True)
class OnBase:
    """What the adapter reached on these values of its base, and the base alone."""

    precision: BasePrecision
    evaluation: Evaluation


class UnswappedRig(Rig):
    """A rig that is judged on the base it holds, whether that is what is served or not: which one it is, is the question here."""

    def hold_served_base(self) -> None:
        """Keep the base."""


class Bench:
    """Judges the adapter in a workspace whose job has ended."""

    def __init__(self, workspace: Workspace, result: WorkerResult, bot: BotDraft, device: torch.device) -> None:
        """Read the rows that the job was judged by."""
        self._workspace = workspace
        self._result = result
        self._bot = bot
        self._device = device
        self._spec = workspace.read_spec()
        self._base = PreparedBase.open(Path(self._spec.base_dir))
        self._held_out = _load_held_out(self._spec, self._base)

    def judge(self, precisions: Iterable[BasePrecision], memory: Memory) -> Iterator[OnBase]:
        """Yield what the adapter reaches on each; answers of the one before are overwritten in the workspace."""
        tokenizer = Tokenizer.from_file(str(self._base.tokenizer_file))
        general = cut_general_rows(tokenizer, self._held_out)
        batches = Batches([self._held_out.rows[: self._spec.training.batch_rows]], self._held_out.measured, [], general)
        for precision in precisions:
            rig = UnswappedRig(self._base, self._spec.training, batches, self._device, memory, self._workspace.folder)
            rig.set_up(Techniques(precision, self._spec.training.batch_rows))
            rig.adapter.load(self._workspace.adapter_dir)
            rig.finish_training()
            judge = Judge(rig, self._held_out, general, Chooser())
            found = judge.judge(self._base.end_of_turn_id, Meter(self._workspace, memory))
            self._workspace.write_answers([answered.decode(tokenizer) for answered in found.answers])
            yield OnBase(precision, self._score(found.held_out.base, found.held_out.adapter))

    def _score(self, base_loss: float, adapter_loss: float) -> Evaluation:
        evaluation = evaluate_attempt(self._workspace, self._result, self._bot)
        return replace(evaluation, base_loss=base_loss, adapter_loss=adapter_loss)


def _load_held_out(spec: WorkerSpec, base: PreparedBase) -> Rows:
    return load_rows(Path(spec.held_out_rows), RowRenderer.of(base), spec.training.max_row_tokens)
