"""A worker that trains nothing: `python tests/fakes/worker.py BEHAVIOUR WORKSPACE`.

It keeps the whole protocol of `workspace.py` as the real one does, in milliseconds: reads spec and rows, beats, appends progress,
stages an adapter that the check accepts, leaves a result, ends with a code. Each behaviour is one way in which a worker may end.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path

from adaptory.core.adapter_check import adapter_digest
from adaptory.core.base_shape import BaseShape
from tests.adapters import write_adapter
from trainer_svc.jobs.workspace import ExitCode, JudgedAnswer, Phase, Progress, WorkerResult, WorkerSpec, Workspace
from trainer_svc.memory.techniques import describe

PEAK_BYTES = 223_456_789
SMALL_PEAK_BYTES = 190_000_000
HELD_OUT_LOSSES = {1: 0.7, 2: 0.8}
PHASES = {Phase.LOAD: 3, Phase.STEP: 1, Phase.EVALUATE: 2, Phase.SAVE: 4}
PHASE_PEAK_BYTES = {str(phase): PEAK_BYTES // share for phase, share in PHASES.items()}


def main() -> int:
    """Behave as told and return the exit code."""
    _die_with_parent()
    behaviour, workspace = sys.argv[1], Workspace(Path(sys.argv[2]))
    spec = workspace.read_spec()
    workspace.beat()
    workspace.append_progress(Progress(Phase.LOAD, step=0, num_steps=2))
    return _BEHAVIOURS[behaviour](workspace, spec)


def succeed(
    workspace: Workspace,
    spec: WorkerSpec,
    *,
    adapter_loss: float = 0.5,
    adapter_general_loss: float = 3.1,
    weight_scale: float = 0.02,
    place: int = 0,
    peak_bytes: int = PEAK_BYTES,
    answers_right: bool = True,
) -> int:
    """Do everything right, on the rung at `place`; the adapter is seeded like a real one, so the same job gives the same bytes.

    One that is given is judged, and none is trained.
    """
    if spec.given_adapter:
        return judge(workspace, spec, adapter_loss=adapter_loss, answers_right=answers_right)
    for step in (1, 2):
        line = Progress(Phase.STEP, step, num_steps=2, loss=1.0 / step, tokens_per_second=400.0, step_seconds=0.1)
        workspace.append_progress(line)
        if step in HELD_OUT_LOSSES:
            workspace.append_progress(replace(line, held_out_loss=HELD_OUT_LOSSES[step], step_seconds=None))
    shape = BaseShape.from_folder(Path(spec.base_dir) / "original")
    rank, seed = spec.training.rank, spec.training.seed
    write_adapter(workspace.adapter_dir, shape, rank=rank, weight_scale=weight_scale, seed=seed)
    workspace.write_answers(list(_answer(Path(spec.held_out_rows), is_taught=answers_right)))
    workspace.write_result(
        WorkerResult(
            ExitCode.SUCCEEDED,
            adapter_digest=adapter_digest(workspace.adapter_dir),
            rank=rank,
            base_loss=2.0,
            adapter_loss=adapter_loss,
            base_general_loss=3.0,
            adapter_general_loss=adapter_general_loss,
            num_steps=2,
            best_step=min(HELD_OUT_LOSSES, key=lambda step: HELD_OUT_LOSSES[step]),
            num_train_rows=len(Path(spec.train_rows).read_text().splitlines()),
            num_held_out_rows=_count_measured(Path(spec.held_out_rows)),
            train_seconds=0.2,
            tokens_per_second=400.0,
            peak_bytes=peak_bytes,
            phase_peak_bytes={phase: peak_bytes // share for phase, share in PHASES.items()},
            techniques=spec.memory.rungs[place].techniques,
            num_climbs=place,
            versions={"fake": "1"},
            device="cpu",
        )
    )
    return ExitCode.SUCCEEDED


def judge(workspace: Workspace, spec: WorkerSpec, *, adapter_loss: float, answers_right: bool) -> int:
    """Find a given adapter to be what it is told to be."""
    workspace.write_answers(list(_answer(Path(spec.held_out_rows), is_taught=answers_right)))
    workspace.write_result(
        WorkerResult(
            ExitCode.SUCCEEDED,
            adapter_digest=adapter_digest(Path(spec.given_adapter)),
            rank=spec.training.rank,
            base_loss=2.0,
            adapter_loss=adapter_loss,
            base_general_loss=3.0,
            adapter_general_loss=3.1,
            num_held_out_rows=_count_measured(Path(spec.held_out_rows)),
            peak_bytes=PEAK_BYTES,
            phase_peak_bytes={phase: PHASE_PEAK_BYTES[phase] for phase in (Phase.LOAD, Phase.EVALUATE)},
            techniques=spec.memory.techniques,
            versions={"fake": "1"},
            device="cpu",
        )
    )
    return ExitCode.SUCCEEDED


def learn_nothing(workspace: Workspace, spec: WorkerSpec) -> int:
    """Leave a good adapter that scores worse than the base."""
    return succeed(workspace, spec, adapter_loss=2.5)


def learn_wrong_answers(workspace: Workspace, spec: WorkerSpec) -> int:
    """Leave an adapter whose losses are good and whose answers are no better than the base's, as one of shuffled answers does."""
    return succeed(workspace, spec, answers_right=False)


def overshoot(workspace: Workspace, spec: WorkerSpec) -> int:
    """Leave an adapter with weights no engine can hold."""
    return succeed(workspace, spec, weight_scale=1000.0)


def diverge(workspace: Workspace, spec: WorkerSpec) -> int:
    """Leave an adapter of NaN, whose losses are as well."""
    return succeed(workspace, spec, adapter_loss=nan, adapter_general_loss=nan, weight_scale=nan)


def take_little(workspace: Workspace, spec: WorkerSpec) -> int:
    """Take less than is predicted."""
    return succeed(workspace, spec, peak_bytes=SMALL_PEAK_BYTES)


def take_nothing(workspace: Workspace, spec: WorkerSpec) -> int:
    """Take far less than can be."""
    return succeed(workspace, spec, peak_bytes=1)


def climb_once(workspace: Workspace, spec: WorkerSpec) -> int:
    """Run out of memory at the first step, and succeed on the second rung."""
    _climb(workspace, spec)
    return succeed(workspace, spec, place=1)


def swap_adapter(workspace: Workspace, spec: WorkerSpec) -> int:
    """Leave another adapter than the result speaks of."""
    succeed(workspace, spec)
    shape = BaseShape.from_folder(Path(spec.base_dir) / "original")
    write_adapter(workspace.adapter_dir, shape, rank=spec.training.rank, seed=999)
    return ExitCode.SUCCEEDED


def run_out_of_memory(workspace: Workspace, spec: WorkerSpec) -> int:
    """Reach the limit at the first step, on the second rung too; such a result has no count of climbs."""
    _climb(workspace, spec)
    peaks = {phase: PHASE_PEAK_BYTES[phase] for phase in (Phase.LOAD, Phase.STEP)}
    workspace.write_result(
        WorkerResult(ExitCode.OUT_OF_MEMORY, reason="OUT_OF_MEMORY", peak_bytes=PEAK_BYTES, phase_peak_bytes={**peaks})
    )
    return ExitCode.OUT_OF_MEMORY


def refuse_data(workspace: Workspace, _spec: WorkerSpec) -> int:
    """Find rows it cannot train on."""
    message = "3 rows have no label."
    result = WorkerResult(ExitCode.INVALID_DATA, "ROWS_WITHOUT_LABEL", message, {"num_rows": "3"})
    workspace.write_result(result)
    return ExitCode.INVALID_DATA


def die(_workspace: Workspace, _spec: WorkerSpec) -> int:
    """Be killed, as by a machine without memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def die_once(workspace: Workspace, spec: WorkerSpec) -> int:
    """Be killed in the first attempt, and succeed in the second."""
    return die(workspace, spec) if workspace.folder.name.endswith("-1") else succeed(workspace, spec)


def work_until_stopped(workspace: Workspace, _spec: WorkerSpec) -> int:
    """Beat for ever; end in good order at SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    while not stopped:
        workspace.beat()
        time.sleep(0.01)
    workspace.write_result(WorkerResult(ExitCode.CANCELLED))
    return ExitCode.CANCELLED


def ignore_stop(workspace: Workspace, spec: WorkerSpec) -> int:
    """Beat for ever, whatever it is asked."""
    while True:
        work_until_stopped(workspace, spec)


def hang(_workspace: Workspace, _spec: WorkerSpec) -> int:
    """Give no sign of life, and ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def _count_measured(held_out_rows: Path) -> int:
    return sum(json.loads(line).get("is_measured", True) for line in held_out_rows.read_text().splitlines())


def _answer(held_out_rows: Path, *, is_taught: bool) -> Iterator[JudgedAnswer]:
    """Yield answers to the last turn, or the middle, of every row: the base says something else, the adapter what the data has."""
    for line, raw in enumerate(held_out_rows.read_text().splitlines()):
        row = json.loads(raw)
        taught = [turn["content"] for turn in row.get("messages", ()) if turn["role"] == "assistant"]
        turn, reference = max(0, len(taught) - 1), taught[-1] if taught else row["middle"]
        answer = reference if is_taught else "No."
        yield JudgedAnswer(line, turn, reference, "As an assistant I do not know.", answer, 0.95 if is_taught else 0.4)


def _climb(workspace: Workspace, spec: WorkerSpec) -> None:
    techniques = spec.memory.rungs[1].techniques
    message = f"Out of memory in phase step after 0 steps; it goes on with {describe(techniques)}."
    workspace.append_progress(
        Progress(Phase.STEP, 0, num_steps=0, peak_bytes=PEAK_BYTES, message=message, climbed_to=techniques)
    )


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the trainer is gone, as the real worker does."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


_BEHAVIOURS = {
    behaviour.__name__: behaviour
    for behaviour in (
        succeed,
        learn_nothing,
        learn_wrong_answers,
        overshoot,
        diverge,
        climb_once,
        take_little,
        take_nothing,
        swap_adapter,
        run_out_of_memory,
        refuse_data,
        die,
        die_once,
        work_until_stopped,
        ignore_stop,
        hang,
    )
}

if __name__ == "__main__":
    sys.exit(main())
