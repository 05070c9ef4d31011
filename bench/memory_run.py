"""Runs one case of the memory measurement: predicts it, simulates it, and trains it in a fresh worker under a limit."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Message, Renderer
from bench.memory_cases import Case
from bench.worker_run import name_rows, require_ended_well, run_worker
from trainer_svc.bots.row import Row
from trainer_svc.jobs.row_sizes import RowSizes, measure_rows
from trainer_svc.jobs.rows import write_rows
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.pricing import Pricing
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape, read_config
from trainer_svc.memory.speed import DeviceSpeed
from trainer_svc.memory.techniques import DeviceKind, Home, away_from, describe
from trainer_svc.plan.second_opinion import simulate_techniques

_WORDS = ("river", "window", "copper", "seven", "lantern", "orchard", "quietly", "meadow", "parcel", "yellow")
_NUM_STEPS = 3
_NUM_HELD_OUT = 2
# A prediction that is right leaves this much: a worker that takes more fails, and the case with it.
_HEADROOM = 1.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case was expected to take and took, in bytes; errors are shares of what was measured.

    `used_peak_bytes` is what of the measured peak was in use; `simulated_peak_bytes` has the prediction's own `context`, which no
    simulation sees. `ended` is the worker's exit code: SUCCEEDED, or OUT_OF_MEMORY where the limit was not enough,
    of which no `device` is known but its kind.
    """

    case: Case
    name: str
    num_parameters: int
    limit_bytes: int
    predicted_peak_bytes: int
    simulated_peak_bytes: int
    measured_peak_bytes: int
    used_peak_bytes: int
    terms: dict[str, int]
    predicted_phases: dict[str, int]
    measured_phases: dict[str, int]
    predicted_seconds: float
    measured_seconds: float
    ended: str
    device: str

    @property
    def error(self) -> float:
        """How far the prediction was off, above 0 where it was too high."""
        return self.predicted_peak_bytes / self.measured_peak_bytes - 1

    @property
    def simulation_error(self) -> float:
        """How far the simulation was off."""
        return self.simulated_peak_bytes / self.measured_peak_bytes - 1


class Runner:
    """Runs cases in folders below one, with what the machine's speed is known to be."""

    def __init__(self, folder: Path, speed: DeviceSpeed | None, device: DeviceKind) -> None:
        self._folder = folder
        self._speed = speed
        self._device = device

    def run(self, case: Case, base: PreparedBase, number: int) -> Outcome:
        """Return what became of a case: a worker that ran out of memory has measured what it took."""
        case = _move(case, self._device)
        folder = self._folder / f"case-{number}"
        folder.mkdir()
        rows = _make_rows(case, base)
        train, held_out = name_rows(folder)
        write_rows(rows, train=train, held_out=held_out)
        training = TrainingSettings(
            rank=case.rank, alpha=2 * case.rank, batch_rows=case.batch_rows, epochs=1, max_row_tokens=2048
        )
        request = self._make_request(case, measure_rows(base, rows), training)
        config = read_config(base.original_dir)
        shape = ModelShape.from_config(config)
        pricing = Pricing(shape, request)
        estimate = pricing.estimate(case.techniques)
        limit_bytes = round(_HEADROOM * estimate.peak_bytes)
        memory = MemorySettings.of_one(limit_bytes, case.techniques)
        spec = WorkerSpec("bench", str(base.folder), str(train), str(held_out), training, memory)
        simulated = int(str(simulate_techniques(config, case.techniques, request)["peak_bytes"]))
        result = _train(spec, folder / "workspace")
        return Outcome(
            case=case,
            name=f"{case.base}, {describe(case.techniques)}",
            num_parameters=shape.num_linear + shape.num_other,
            limit_bytes=limit_bytes,
            predicted_peak_bytes=estimate.peak_bytes,
            simulated_peak_bytes=simulated + estimate.terms["context"],
            measured_peak_bytes=result.peak_bytes,
            used_peak_bytes=result.used_peak_bytes,
            terms=estimate.terms,
            predicted_phases=estimate.phases,
            measured_phases=result.phase_peak_bytes,
            predicted_seconds=pricing.predict_seconds(case.techniques),
            measured_seconds=result.train_seconds,
            ended=result.exit_code.name,
            device=result.device or self._device,
        )

    def _make_request(self, case: Case, sizes: RowSizes, training: TrainingSettings) -> PlanRequest:
        return PlanRequest(
            limit_bytes=0,
            rank=case.rank,
            batch_rows=case.batch_rows,
            batches=sizes.cut_batches(training),
            held_out=sizes.judged,
            shared_tokens=sizes.shared_tokens,
            num_measurements=sizes.count_measurements(training),
            speed=self._speed,
            device=self._device,
        )


def _move(case: Case, device: DeviceKind) -> Case:
    """Return the case with what leaves the device where it goes from this one."""
    techniques, away = case.techniques, away_from(device)

    def place(home: Home) -> Home:
        return home if home is Home.DEVICE else away

    moved = replace(
        techniques,
        moments_home=place(techniques.moments_home),
        activations_home=place(techniques.activations_home),
        frozen_home=place(techniques.frozen_home),
    )
    return replace(case, techniques=moved)


def _make_rows(case: Case, base: PreparedBase) -> list[Row]:
    """Return rows of about as many tokens, each of other words, so that all lengths differ a little as real ones do."""
    chance = random.Random(case.row_tokens)  # noqa: S311 - to be repeatable, not secret
    renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
    num_rows = _NUM_STEPS * case.batch_rows
    return [
        Row(_talk(renderer, case.row_tokens, chance), is_held_out=place >= num_rows)
        for place in range(num_rows + _NUM_HELD_OUT)
    ]


def _talk(renderer: Renderer, num_tokens: int, chance: random.Random) -> tuple[Message, ...]:
    words: list[str] = []
    messages: tuple[Message, ...] = ()
    target = num_tokens - chance.randint(0, num_tokens // 8)
    num_missing = target
    while num_missing > 0:
        words += chance.choices(_WORDS, k=max(1, num_missing // 2))
        messages = (Message("user", f"Tell me {chance.random()}"), Message("assistant", " ".join(words)))
        num_missing = target - len(renderer.render_row(messages).ids)
    return messages


def _train(spec: WorkerSpec, folder: Path) -> WorkerResult:
    workspace = Workspace(folder)
    workspace.create(spec)
    return require_ended_well(run_worker(workspace), ExitCode.SUCCEEDED, ExitCode.OUT_OF_MEMORY)
