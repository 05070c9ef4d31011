"""Runs each scenario on both sides in turns, every run in a process of its own: one engine at a time has the machine."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from adaptory.core.base_model import PreparedBase
from adaptory.core.cpu_engine import CORES_VARIABLE, choose_cores
from adaptory.core.errors import ServiceError
from bench.serving.answers import divide
from bench.serving.scenario import Scenario, SideName, SideResult, SideRun, read_result, write_json
from bench.serving.shelf import AdapterShelf

_SIDES: tuple[SideName, ...] = ("ours", "bare")
_NUM_LOG_LINES = 60
# What vLLM reads when it is imported, on the bare side as serve_svc sets it; its check for NaN, which is ours, is left out.
_ENVIRONMENT = {
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}

OnPhase = Callable[[SideName, Scenario, str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A scenario on both sides, the rounds of each pooled: means of numbers, all samples."""

    scenario: Scenario
    ours: SideResult
    bare: SideResult

    @property
    def ratio_throughput(self) -> float:
        """Our tokens a second as a share of the bare engine's."""
        ours, bare = (side.numbers["output_tokens_per_second"] for side in (self.ours, self.bare))
        return divide(ours, bare)


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of a phase, the seed of all that is drawn, and how many times each side runs a scenario."""

    seconds: float
    seed: int
    rounds: int


class Runner:
    """Runs scenarios below a folder, on one base and one shelf of adapters."""

    def __init__(self, base: PreparedBase, effort: Effort, folder: Path, on_phase: OnPhase) -> None:
        self._base = base
        self._effort = effort
        self._folder = folder
        self._on_phase = on_phase
        self._shelf = folder / "shelf"
        AdapterShelf.write(self._shelf, base.shape)

    def run_all(self, scenarios: Sequence[Scenario]) -> Iterator[Measured]:
        """Yield each scenario, measured. Raises ServiceError when a side fails."""
        for scenario in scenarios:
            results: dict[SideName, list[SideResult]] = {side: [] for side in _SIDES}
            for number in range(self._effort.rounds):
                # Ours first, as its rate is what both are asked at.
                for side in _SIDES:
                    rate = results["ours"][0].rate if results["ours"] else None
                    results[side].append(self._run_side(side, scenario, number, rate))
            yield Measured(scenario, pool(results["ours"]), pool(results["bare"]))

    def _run_side(self, side: SideName, scenario: Scenario, number: int, rate: float | None) -> SideResult:
        folder = self._folder / f"{scenario.name}-{side}-{number}"
        folder.mkdir()
        run = SideRun(
            side=side,
            scenario=scenario.name,
            base=str(self._base.folder),
            shelf=str(self._shelf),
            folder=str(folder),
            seconds=self._effort.seconds,
            seed=self._effort.seed + number,
            rate=rate,
        )
        write_json(run, folder / "run.json")
        run_child([sys.executable, "-m", "bench.serving"], folder, lambda phase: self._on_phase(side, scenario, phase))
        return read_result(folder / "result.json")


def run_child(command: Sequence[str], folder: Path, on_phase: Callable[[str], None]) -> None:
    """Run a program on a folder, told of its phases; its log goes there, too. Raises ServiceError when it fails."""
    log_file = folder / "log"
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_ENVIRONMENT, CORES_VARIABLE: choose_cores()},
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                on_phase(line.strip())
            process.wait()
        except BaseException:
            # It takes down what it started, which a kill would leave.
            process.terminate()
            raise
    if process.returncode:
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-_NUM_LOG_LINES:]
        message = f"{' '.join(command)} ended with code {process.returncode}. The end of its log:\n" + "\n".join(lines)
        raise ServiceError(message)


def pool(results: Sequence[SideResult]) -> SideResult:
    """Return the rounds of one side as one."""
    numbers = {name: fmean(result.numbers[name] for result in results) for name in results[0].numbers}
    return SideResult(results[0].rate, numbers, _pool_samples([result.samples for result in results]))


def _pool_samples(rounds: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    return {name: [value for samples in rounds for value in samples[name]] for name in rounds[0]}
