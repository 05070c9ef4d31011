"""What is asked of a plan: a base by name or by its config, a method, a limit, and rows, real or of one length."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from adaptory.core.base_model import PreparedBase, find_base
from adaptory.core.catalogue import Catalogue
from adaptory.core.errors import FailedPrecondition, InvalidRequest
from trainer_svc.bots.data_file import DataFile
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.row_rendering import LearnedRow
from trainer_svc.bots.teaching import Lesson, teaching_of
from trainer_svc.jobs.machine import Machine, require_possible_limit
from trainer_svc.jobs.row_sizes import RowSizes, measure_rows, require_short_rows
from trainer_svc.jobs.rows import RowSource, split_rows
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape, read_config
from trainer_svc.memory.speed import DeviceSpeed
from trainer_svc.memory.techniques import ComputePrecision, DeviceKind, Method, Objective

MAX_RANK = 64
MAX_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as it comes in. `config` is a folder with config.json, or such a file, in place of a known base.

    Without `data` all rows have `max_tokens`; `rows` is how many are trained on, a batch unless told. With `data`, a file of
    questions and answers, of conversations or of code, rows are measured with the base's own tokenizer. No `device` means this
    machine's, no `compute` what the device computes in, of which another machine's CUDA device is taken to be a recent one. With
    `simulates` the best plan gets a second opinion.
    """

    base: str
    limit_bytes: int
    max_tokens: int
    method: Method = Method.QLORA
    objective: Objective = Objective.SFT
    rank: int = 16
    batch_rows: int = 8
    rows: int = 0
    epochs: int = 1
    config: str = ""
    data: str = ""
    device: DeviceKind | None = None
    compute: ComputePrecision | None = None
    may_offload: bool = True
    simulates: bool = False
    cache: str = ""
    catalogue: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A question that was checked, with the shape of its base and the sizes of the rows it is about."""

    question: Question
    config: Mapping[str, object]
    shape: ModelShape
    sizes: RowSizes
    device: DeviceKind
    compute: ComputePrecision
    is_here: bool

    @classmethod
    def of(cls, question: Question, machine: Machine) -> Self:
        """Read all the question names.

        Raises InvalidRequest for a number out of bounds, an unknown architecture, or a row that is too long, NotFound for an unknown
        base, FailedPrecondition for one whose rows cannot be measured.
        """
        _check_base(question)
        _check_numbers(question)
        is_here = question.device in (None, machine.device)
        if is_here:
            require_possible_limit(question.limit_bytes, machine, field="--limit")
        config = _find_config(question)
        shape = ModelShape.from_config(config)
        _check_length(question, shape)
        sizes = _measure(question)
        device = question.device or machine.device
        compute = question.compute or (machine.read_compute() if is_here else ComputePrecision.BF16)
        _check_compute(compute, device)
        return cls(question, config, shape, sizes, device, compute, is_here)

    def make_request(self, speed: DeviceSpeed | None) -> PlanRequest:
        """Return what the planner takes."""
        question = self.question
        training = TrainingSettings(rank=question.rank, epochs=question.epochs, batch_rows=question.batch_rows)
        # A pair is two answers to one prompt; without data both are as long.
        copies = 2 if question.objective is Objective.PREFERENCE else 1
        batches = [[length for length in batch for _ in range(copies)] for batch in self.sizes.cut_batches(training)]
        return PlanRequest(
            limit_bytes=question.limit_bytes,
            rank=question.rank,
            batch_rows=question.batch_rows,
            batches=batches,
            held_out=self.sizes.judged,
            shared_tokens=self.sizes.shared_tokens,
            num_measurements=self.sizes.count_measurements(training),
            device=self.device,
            compute=self.compute,
            may_offload=question.may_offload,
            method=question.method,
            objective=question.objective,
            speed=speed,
        )


def _check_base(question: Question) -> None:
    if bool(question.base) == bool(question.config):
        raise InvalidRequest.of_field(
            "--base", "give a base model with --base, or its sizes with --config, and not both"
        )
    if question.data and question.config:
        raise InvalidRequest.of_field("--data", "needs --base: rows are measured with that base's own tokenizer")


def _check_numbers(question: Question) -> None:
    for option, value, highest in (
        ("--limit", question.limit_bytes, None),
        ("--max-tokens", question.max_tokens, None),
        ("--rank", question.rank, MAX_RANK),
        ("--batch-rows", question.batch_rows, MAX_BATCH_ROWS),
        ("--epochs", question.epochs, 100),
    ):
        if value <= 0 or (highest is not None and value > highest):
            bounds = "above 0" if highest is None else f"1 to {highest:,}"
            raise InvalidRequest.of_field(option, f"is {value:,}; it must be {bounds}", value=value, bounds=bounds)
    if question.rows < 0:
        raise InvalidRequest.of_field("--rows", f"is {question.rows:,}; it must be 0, for one batch, or more")


def _check_compute(compute: ComputePrecision, device: DeviceKind) -> None:
    if device is DeviceKind.CPU and compute is ComputePrecision.FP16:
        raise InvalidRequest.of_field(
            "--compute", "fp16 is for CUDA devices that have no bf16, and a CPU computes in bf16: leave it out"
        )


def _find_config(question: Question) -> Mapping[str, object]:
    """Return the config that is named, or that of the catalogue's or a prepared base."""
    if question.config:
        path = Path(question.config)
        return read_config(path.parent if path.name == "config.json" else path)
    entry = Catalogue.load(Path(question.catalogue) if question.catalogue else None).entries.get(question.base)
    if entry is not None and entry.config:
        return entry.config
    return read_config(find_base(question.base, Path(question.cache)).parity_dir)


def _check_length(question: Question, shape: ModelShape) -> None:
    if question.max_tokens > shape.max_tokens:
        raise InvalidRequest.of_field(
            "--max-tokens",
            f"is {question.max_tokens:,}; {question.base or question.config} takes at most {shape.max_tokens:,} tokens",
            max_tokens=question.max_tokens,
            base_max_tokens=shape.max_tokens,
        )


def _measure(question: Question) -> RowSizes:
    """Return the sizes of the rows of `data`, or of rows that all have the most tokens."""
    if not question.data:
        return RowSizes((question.max_tokens,) * (question.rows or question.batch_rows), (), 0)
    if question.objective is Objective.PREFERENCE:
        raise InvalidRequest.of_field("--data", "preference pairs are not read yet; give --max-tokens and --rows")
    try:
        base = find_base(question.base, Path(question.cache))
    except FailedPrecondition as error:
        message = f"Rows are measured with the base's own tokenizer. {error.message}. Or leave --data out."
        raise FailedPrecondition(message, reason=error.reason, metadata=error.metadata) from error
    sizes = measure_rows(base, _read_rows(Path(question.data), base, question.max_tokens))
    require_short_rows(sizes, question.max_tokens, field="--max-tokens")
    return sizes


def _read_rows(path: Path, base: PreparedBase, max_tokens: int) -> Iterator[LearnedRow]:
    """Yield the rows of a dataset's file; code is cut to rows of at most `max_tokens`.

    Raises InvalidRequest when it cannot be read, or with its first bad lines, NotServed for a format that is not trained on.
    """
    data = DataFile.guess(path, DataLimits(), field="--data")
    report = data.judge(field="--data", ruler=TokenRuler(base))
    recipe = teaching_of(data.kind).choose_recipe(report.size).fit(replace(base.shape, max_tokens=max_tokens))
    source = RowSource(data.kind, data.format, "", recipe.held_out_share, Lesson("", recipe.training, base))
    return split_rows(data.read_entries, source)
