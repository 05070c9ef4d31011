"""The folder through which the runner and a worker talk: a spec in, progress and a result out.

The worker never calls back. It reads `spec.json` (and shortens its ladder, where it begins anew), appends lines to `progress.jsonl`,
touches `heartbeat`, keeps adapters that may become the version in `candidates/`, leaves answers to score in `answers.json`, stages
the adapter in `adapter/`, leaves `result.json` last, and exits with an `ExitCode`. The runner alone scores, writes state and
publishes. Where an adapter is given, in `given/`, it trains none and judges that one.
Plain Python on purpose: both the control plane (no torch) and the worker import it.
"""

import enum
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter

from trainer_svc.memory.techniques import Techniques


class ExitCode(enum.IntEnum):
    """How a worker ended. Anything else (a signal, say) means the worker was lost."""

    SUCCEEDED = 0
    FAILED = 10
    INVALID_DATA = 11
    OUT_OF_MEMORY = 12
    ADAPTER_REJECTED = 13
    CANCELLED = 14


class Phase(enum.StrEnum):
    """Where a worker is; memory peaks are kept for each."""

    LOAD = "load"
    STEP = "step"
    EVALUATE = "evaluate"
    SAVE = "save"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What the adapter is and how it is trained; every value is recorded with the version.

    `batch_rows` is the effective batch: rows per optimizer step, however they are cut into micro-batches. Training stops after
    `early_stopping_patience` measurements of the loss on held-out rows without a gain; 0 is never.
    """

    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-3
    epochs: int = 6
    batch_rows: int = 8
    max_row_tokens: int = 1024
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    max_steps: int | None = None
    early_stopping_patience: int = 0


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to run the job, with the peak it is expected to have in each phase, in bytes above the worker's baseline."""

    techniques: Techniques
    phases: dict[str, int]

    @property
    def predicted_peak_bytes(self) -> int:
        """The largest phase."""
        return max(self.phases.values())


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """The limit of a job, in bytes above the worker's baseline, and its ladder: the plan, then what to go on with when it fails.

    Every rung trains the same numbers, beyond rounding, in less memory than the one before it.
    """

    limit_bytes: int
    rungs: tuple[Rung, ...]

    @property
    def techniques(self) -> Techniques:
        """How the job begins."""
        return self.rungs[0].techniques

    @classmethod
    def of_one(cls, limit_bytes: int, techniques: Techniques) -> Self:
        """Return settings without a second rung, of which nothing is predicted but the limit."""
        return cls(limit_bytes, (Rung(techniques, {str(phase): limit_bytes for phase in Phase}),))


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything one attempt needs; paths are absolute. `bots.row_rendering` says what a line of rows is.

    `given_adapter` is the folder of the adapter to judge, empty where one is to be trained. `max_general_rise` is by how many nats
    the loss on general text may rise, by the bot's gate: an adapter within it is kept before one that is better on held-out rows.
    """

    job: str
    base_dir: str
    train_rows: str
    held_out_rows: str
    training: TrainingSettings
    memory: MemorySettings
    max_adapter_rank: int = 64
    given_adapter: str = ""
    max_general_rise: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of progress. `loss` is the mean over learned tokens of the step; `eta_s` the expected seconds left.

    A line with a `held_out_loss` repeats that of the step after which it was measured, but for `step_seconds`. One with a `message`
    tells what happened instead; `climbed_to` is there when the worker took the next rung of its ladder.
    """

    phase: Phase
    step: int
    num_steps: int
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    rows_per_second: float | None = None
    step_seconds: float | None = None
    eta_s: float | None = None
    peak_bytes: int | None = None
    held_out_loss: float | None = None
    message: str = ""
    climbed_to: Techniques | None = None


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """What base and adapter answered to one prompt: learned stretch `turn` of line `line` of the held-out rows, both from 0.

    `certainty` is how sure the adapter was of its answer: the geometric mean of its tokens' probabilities, 0 to 1.
    """

    line: int
    turn: int
    reference: str
    base: str
    adapter: str
    certainty: float


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What the worker measured, or why it failed.

    Losses are means over learned tokens, on the parity base: of `num_held_out_rows`, or of general text where they say so.
    `peak_bytes` is the most of the limit that was taken, `used_peak_bytes` what of it was in use. The adapter is that of step
    `best_step` of the `num_steps` that were run, counted from 1; 0 where no loss on held-out rows was finite. `receipts` say how it
    renders, `chat` and `code`.
    """

    exit_code: ExitCode
    reason: str = ""
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    adapter_digest: str = ""
    rank: int = 0
    base_loss: float | None = None
    adapter_loss: float | None = None
    base_general_loss: float | None = None
    adapter_general_loss: float | None = None
    train_losses: list[float] = field(default_factory=list)
    num_steps: int = 0
    best_step: int = 0
    num_train_rows: int = 0
    num_held_out_rows: int = 0
    num_train_tokens: int = 0
    train_seconds: float = 0.0
    tokens_per_second: float = 0.0
    peak_bytes: int = 0
    phase_peak_bytes: dict[str, int] = field(default_factory=dict)
    used_peak_bytes: int = 0
    techniques: Techniques | None = None
    num_climbs: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    device: str = ""


class Workspace:
    """One attempt's folder. Every file appears whole: written aside, then renamed; only `progress.jsonl` grows."""

    def __init__(self, folder: Path) -> None:
        """Name the files; nothing is created until `create`."""
        self.folder = folder
        self.spec_file = folder / "spec.json"
        self.progress_file = folder / "progress.jsonl"
        self.heartbeat_file = folder / "heartbeat"
        self.result_file = folder / "result.json"
        self.log_file = folder / "worker.log"
        self.candidates_dir = folder / "candidates"
        self.answers_file = folder / "answers.json"
        self.adapter_dir = folder / "adapter"
        self.given_dir = folder / "given"

    def create(self, spec: WorkerSpec) -> None:
        """Make the folder with its spec. Raises FileExistsError when the attempt was begun before."""
        self.folder.mkdir(parents=True, exist_ok=False)
        _write_whole(self.spec_file, json.dumps(asdict(spec)))

    def shorten_ladder(self, spec: WorkerSpec, place: int) -> None:
        """Replace the spec by one whose ladder begins at the rung of this place."""
        memory = replace(spec.memory, rungs=spec.memory.rungs[place:])
        _write_whole(self.spec_file, json.dumps(asdict(replace(spec, memory=memory))))

    def read_spec(self) -> WorkerSpec:
        """Return the spec. Raises ValueError when it is not one of ours."""
        return _SPEC.validate_json(self.spec_file.read_bytes())

    def append_progress(self, progress: Progress) -> None:
        """Append one line in a single write, so that a reader never sees half of it mixed with another."""
        with self.progress_file.open("ab") as file:
            file.write(json.dumps(asdict(progress)).encode() + b"\n")

    def read_progress(self, offset: int) -> Iterator[tuple[Progress, int]]:
        """Yield each complete line after byte `offset` with the offset that follows it."""
        if not self.progress_file.exists():
            return
        with self.progress_file.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield progress_from_json(line), offset

    def beat(self) -> None:
        """Say that the worker lives: the runner reads the age of this file."""
        self.heartbeat_file.touch()

    def write_answers(self, answers: list[JudgedAnswer]) -> None:
        """Leave what was answered, for the runner to score; it holds a tenant's texts and goes with the folder."""
        _write_whole(self.answers_file, json.dumps([asdict(answer) for answer in answers]))

    def read_answers(self) -> list[JudgedAnswer]:
        """Return what was answered. Raises FileNotFoundError, and ValueError when it is not ours."""
        return _ANSWERS.validate_json(self.answers_file.read_bytes())

    def write_result(self, result: WorkerResult) -> None:
        """Leave the result; the last thing a worker does before it exits."""
        _write_whole(self.result_file, json.dumps(asdict(result)))

    def read_result(self) -> WorkerResult:
        """Return the result. Raises FileNotFoundError when the worker was lost before it left one, ValueError when it is not ours."""
        return _RESULT.validate_json(self.result_file.read_bytes())


def progress_from_json(text: str | bytes) -> Progress:
    """Read progress as it is written. Raises ValueError when it is not ours."""
    return _PROGRESS.validate_json(text)


# Built once: each holds a compiled validator.
_SPEC, _PROGRESS, _RESULT = TypeAdapter(WorkerSpec), TypeAdapter(Progress), TypeAdapter(WorkerResult)
_ANSWERS = TypeAdapter(list[JudgedAnswer])


def _write_whole(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
