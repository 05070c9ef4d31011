"""The whole way of one file of data: judged, split, planned, trained in a worker under a limit, scored, and through the gate.

Every step is the service's own. What the measurement adds are caps, so that a file takes minutes: how many rows, how long, and how
many tokens are trained on.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import ServiceError
from adaptory.core.names import BotName
from bench.quality_sample import Sample, take_sample
from bench.worker_run import WORKER, name_rows, require_ended_well, run_worker
from trainer_svc.bots.data_file import DataFile
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.refusals import RefusalLesson
from trainer_svc.bots.row_rendering import LearnedRow
from trainer_svc.bots.teaching import Lesson, teaching_of
from trainer_svc.jobs.machine import Machine
from trainer_svc.jobs.row_sizes import RowSizes, measure_rows, require_short_rows
from trainer_svc.jobs.rows import RowSource, split_rows, write_rows
from trainer_svc.jobs.scoring import evaluate_attempt
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerSpec, Workspace
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import QualityGate, find_faults
from trainer_svc.memory.batches import count_steps
from trainer_svc.memory.planner import MemoryPlan, plan_memory
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.registry.bots import BotDraft, GenerationDefaults

# Of a file cut to some hundred rows, a recipe's twentieth would be a handful: too few answers to score by.
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of a file is used, the memory limit of its job, and what its bot is told and taught besides.

    `max_train_tokens` cuts the training short of its recipe, or of `epochs` where they are given, at a whole step. A `learning_rate`
    takes the place of the recipe's. `max_row_tokens` are counted without `system_prompt`, which begins every conversation. With a
    `refusal_text` FAQ bots are taught to refuse.
    """

    limit_bytes: int
    max_rows: int
    max_row_tokens: int
    max_train_tokens: int
    epochs: int | None = None
    learning_rate: float | None = None
    system_prompt: str = ""
    refusal_text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file; `faults` say why the gate rejects its adapter, none where it may answer.

    Sizes are in bytes above the worker's baseline, `seconds` those of the whole way. `num_steps` were trained of `num_recipe_steps`;
    the adapter is that of `best_step`.
    """

    file: str
    kind: BotKind
    format: str
    num_file_rows: int
    num_rows: int
    num_left_out: int
    num_problems: int
    num_steps: int
    num_recipe_steps: int
    best_step: int
    evaluation: Evaluation
    limit_bytes: int
    predicted_peak_bytes: int
    peak_bytes: int
    seconds: float
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file no bot was made of, and why."""

    file: str
    why: str


class Course:
    """Takes files the whole way, each in a folder of its own below one."""

    def __init__(
        self, base: PreparedBase, machine: Machine, effort: Effort, folder: Path, worker: Sequence[str] = WORKER
    ) -> None:
        """Keep what all files have in common; `worker` is the command to which a workspace is appended."""
        self._worker = worker
        self._base = base
        self._machine = machine
        self._effort = effort
        self._folder = folder
        self._ruler = TokenRuler(base)

    def take(self, path: Path, name: str) -> Outcome | Refusal:
        """Return what became of a file, told by its name; what the service would refuse, or fail at, is a Refusal."""
        try:
            return self._go(path, name)
        except ServiceError as error:
            return Refusal(name, error.message)

    def _go(self, path: Path, name: str) -> Outcome:
        begun_s = time.monotonic()
        data = DataFile.guess(path, DataLimits(), field="--data")
        report = data.judge(field="--data")
        effort = self._effort
        sample = take_sample(data, self._ruler, max_rows=effort.max_rows, max_row_tokens=effort.max_row_tokens)
        _require_two_rows(sample, effort)
        job = _Job.settle(data, sample, self._base, effort)
        plan = self._plan(job)
        workspace = self._lay_out(job, plan)
        result = require_ended_well(run_worker(workspace, self._worker), ExitCode.SUCCEEDED)
        evaluation = evaluate_attempt(workspace, result, job.bot)
        return Outcome(
            file=name,
            kind=data.kind,
            format=data.format,
            num_file_rows=report.num_rows,
            num_rows=sample.num_rows,
            num_left_out=sample.num_left_out,
            num_problems=report.num_problems,
            num_steps=result.num_steps,
            num_recipe_steps=job.num_recipe_steps,
            best_step=result.best_step,
            evaluation=evaluation,
            limit_bytes=effort.limit_bytes,
            predicted_peak_bytes=plan.predicted_peak_bytes,
            peak_bytes=result.peak_bytes,
            seconds=time.monotonic() - begun_s,
            faults=find_faults(data.kind, job.bot.gate, evaluation),
        )

    def _plan(self, job: "_Job") -> MemoryPlan:
        training, sizes = job.source.lesson.training, job.sizes
        request = PlanRequest(
            limit_bytes=self._effort.limit_bytes,
            rank=training.rank,
            batch_rows=training.batch_rows,
            batches=sizes.cut_batches(training),
            held_out=sizes.judged,
            asked=sizes.asked_alone,
            shared_tokens=sizes.shared_tokens,
            device=self._machine.device,
            speed=self._machine.read_speed(),
            num_measurements=sizes.count_measurements(training),
        )
        return plan_memory(ModelShape.from_folder(self._base.parity_dir), request)

    def _lay_out(self, job: "_Job", plan: MemoryPlan) -> Workspace:
        workspace = Workspace(self._folder / f"{len(list(self._folder.iterdir()))}")
        train, held_out = name_rows(workspace.folder)
        memory = MemorySettings(self._effort.limit_bytes, plan.rungs)
        spec = WorkerSpec(
            job="bench",
            base_dir=str(self._base.folder),
            train_rows=str(train),
            held_out_rows=str(held_out),
            training=job.source.lesson.training,
            memory=memory,
            max_general_rise=job.bot.gate.effective_max_general_loss_rise,
        )
        workspace.create(spec)
        write_rows(job.read_rows(), train=train, held_out=held_out)
        return workspace


@dataclass(frozen=True, slots=True)
class _Job:
    """What is trained: the bot, where its rows come from, and their sizes."""

    bot: BotDraft
    sample: Sample
    source: RowSource
    sizes: RowSizes
    num_recipe_steps: int

    @classmethod
    def settle(cls, data: DataFile, sample: Sample, base: PreparedBase, effort: Effort) -> "_Job":
        """Choose the recipe for the sample, and cut it to as many steps as there are tokens for."""
        recipe = teaching_of(data.kind).choose_recipe(sample.size).fit(base.shape)
        given = {"held_out_share": _HELD_OUT_SHARE, "epochs": effort.epochs, "learning_rate": effort.learning_rate}
        recipe = recipe.override({name: value for name, value in given.items() if value is not None})
        refusal = RefusalLesson(effort.refusal_text)
        bot = BotDraft(
            name=BotName("bench", "quality"),
            kind=data.kind,
            base_model=base.name,
            display_name="",
            system_prompt=effort.system_prompt,
            generation=GenerationDefaults(0, 0.0, 0.0),
            gate=QualityGate(),
            refusal=refusal,
        )
        source = RowSource(
            data.kind,
            data.format,
            "",
            recipe.held_out_share,
            Lesson(effort.system_prompt, recipe.training, base, refusal),
        )
        sizes = measure_rows(base, _split(sample, source))
        require_short_rows(sizes, recipe.training.max_row_tokens, field="--max-row-tokens")
        num_recipe_steps = count_steps(len(sizes.trained), recipe.training)
        training = replace(
            recipe.training, max_steps=min(num_recipe_steps, _afford_steps(sizes, recipe.training, effort))
        )
        source = replace(source, lesson=replace(source.lesson, training=training))
        return cls(bot, sample, source, sizes, num_recipe_steps)

    def read_rows(self) -> Iterator[LearnedRow]:
        """Yield the rows, those held out included."""
        return _split(self.sample, self.source)


def _split(sample: Sample, source: RowSource) -> Iterator[LearnedRow]:
    return split_rows(lambda: iter(sample.entries), source)


def _afford_steps(sizes: RowSizes, training: TrainingSettings, effort: Effort) -> int:
    """Return how many steps of rows of the mean length the tokens of the effort are enough for; one at least."""
    return max(1, int(effort.max_train_tokens / (training.batch_rows * fmean(sizes.trained))))


def _require_two_rows(sample: Sample, effort: Effort) -> None:
    if sample.num_rows < 2:  # noqa: PLR2004 - one to learn and one to judge by
        message = (
            f"{sample.num_rows} of its rows can be used, at least 2 are needed: {sample.num_left_out} entries have rows of more than "
            f"{effort.max_row_tokens} tokens, or ones that the base's template refuses; raise --max-row-tokens."
        )
        raise ServiceError(message, reason="TOO_FEW_ROWS")
