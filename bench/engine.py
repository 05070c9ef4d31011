"""What the settings of the CPU engine are worth: `python -m bench.engine [--rounds N] [--only REGEX] [--scenario REGEX]`.

The product's engine, once for every setting, each in a process of its own. A setting is what the environment tells vLLM, which is the
cores it computes on and libraries loaded before all others, or the size of its batches: requests at once, tokens of a step. They
answer the same prompts in turn and are compared, round by round, with vLLM's own choice, which leaves one core to the scheduler and
loads PyTorch's OpenMP, with 32 requests at once and steps of 2048 tokens.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.base_shape import BaseShape
from adaptory.core.cpu_engine import CORES_VARIABLE, choose_cores
from bench.lora_case import BASE, TEXT, Scenario, cut_prompts, write_adapters
from bench.machine import describe_machine
from bench.side.engine import Asked, Run, Side, Size
from bench.side.process import SideProcess
from bench.side.rounds import Round, Rounds

_SCENARIOS = (Scenario(1, 1, 30), Scenario(4, 16, 30), Scenario(4, 32, 30), Scenario(1, 1, 400), Scenario(4, 16, 400))
_SIZE = Size(max_sequences=32)
_SEQUENCES = (4, 8, 16)
_STEP_TOKENS = (64, 128, 256, 512, 1024)
_OUTPUT_TOKENS = 32
_PRELOAD = "LD_PRELOAD"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the environment of an engine has beside this process's, and its size."""

    name: str
    environment: dict[str, str]
    size: Size = _SIZE


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one setting in one scenario, and its ratios to vLLM's own choice."""

    setting: str
    scenario: str
    median: Round
    throughput_ratio: float
    ttft_ratio: float


def main() -> int:
    """Measure and print; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each setting answers (default 5)")
    only = "beside vLLM's own choice only settings whose name this regular expression finds"
    parser.add_argument("--only", default="", type=_read_pattern, help=only)
    scenario = "only scenarios whose name this regular expression finds"
    parser.add_argument("--scenario", default="", type=_read_pattern, help=scenario)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    own, *others = list_settings()
    settings = [own, *(setting for setting in others if arguments.only.search(setting.name))]
    scenarios = [scenario for scenario in _SCENARIOS if arguments.scenario.search(scenario.name)]
    if len(settings) < 2 or not scenarios:  # noqa: PLR2004 - two sides
        parser.error("--only or --scenario finds nothing")
    rows = measure(settings, scenarios, arguments.rounds)
    if arguments.json:
        told: dict[str, Any] = {"machine": asdict(describe_machine()), "chosen": choose_cores()}
        print(json.dumps({**told, "rows": [asdict(row) for row in rows]}))
    else:
        _print(rows)
    return 0


def _read_pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def list_settings() -> list[Setting]:
    """Return vLLM's own choice first, then what can be tried on this machine."""
    cores = sorted(os.sched_getaffinity(0))
    every = {CORES_VARIABLE: ",".join(map(str, cores))}
    unbound = {CORES_VARIABLE: "nobind", "OMP_NUM_THREADS": str(len(cores))}
    preloads = (
        ("Intel's OpenMP", Path(sys.prefix) / "lib", "libiomp5.so"),
        ("tcmalloc", Path("/usr/lib"), "*/libtcmalloc*.so.4"),
    )
    return [
        Setting("one core left to the scheduler", {CORES_VARIABLE: "auto"}),
        Setting("every core", every),
        Setting("every core, threads not bound", unbound),
        *(
            Setting(f"every core, {name}", {**every, _PRELOAD: str(library)})
            for name, folder, pattern in preloads
            for library in sorted(folder.glob(pattern))[:1]
        ),
        *(
            Setting(f"every core, {number} requests at once", every, replace(_SIZE, max_sequences=number))
            for number in _SEQUENCES
        ),
        *(
            Setting(f"every core, steps of {number}", every, replace(_SIZE, max_step_tokens=number))
            for number in _STEP_TOKENS
        ),
    ]


def measure(settings: list[Setting], scenarios: list[Scenario], num_rounds: int) -> list[Row]:
    """Ask every setting every scenario in turn, after a round that is not counted; the first is what the ratios compare with."""
    base = find_base(BASE, default_cache_root())
    text = TEXT.read_text(encoding="utf-8")
    rows = []
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="adaptory-bench-engine-")))
        adapters = write_adapters(folder, BaseShape.from_folder(base.parity_dir))
        sides = []
        for setting in settings:
            side = SideProcess(Side.OURS, base.parity_dir, adapters, size=setting.size, environment=setting.environment)
            sides.append(resources.enter_context(side))
            side.await_ready()  # one after the other: their threads take the cores from each other while they come up
        for scenario in scenarios:
            prompts = cut_prompts(base.tokenizer_file, text, scenario.prompt_tokens, scenario.num_streams)
            every = _ask(sides, scenario, prompts, num_rounds)
            for setting, rounds in zip(settings, every, strict=True):
                ratios = rounds.throughput_ratio(every[0]), rounds.ttft_ratio(every[0])
                row = Row(setting.name, scenario.name, rounds.median, *ratios)
                print(_sentence(row), file=sys.stderr, flush=True)
                rows.append(row)
    return rows


def _ask(sides: list[SideProcess], scenario: Scenario, prompts: list[list[int]], num_rounds: int) -> list[Rounds]:
    streams = [Asked(prompts[number], scenario.adapter_of(number)) for number in range(scenario.num_streams)]
    rounds: list[list[Round]] = [[] for _ in sides]
    for number in range(num_rounds + 1):
        for side, taken in zip(sides, rounds, strict=True):
            result = side.answer(Run(streams, _OUTPUT_TOKENS, f"{scenario.name}, {number}"))
            if number:
                taken.append(Round.from_result(result))
    return [Rounds(tuple(taken)) for taken in rounds]


def _sentence(row: Row) -> str:
    return (
        f"{row.scenario}: {row.setting}: {row.throughput_ratio:.2f} of the throughput, first token {row.ttft_ratio:.2f}"
    )


def _print(rows: list[Row]) -> None:
    heads = ("scenario", "setting", "tokens/s", "ratio", "first token", "ratio")
    table = Table(
        *heads, title=f"Settings of the engine on {describe_machine()}; the product's choice: {choose_cores()}"
    )
    for row in rows:
        table.add_row(
            row.scenario,
            row.setting,
            f"{row.median.output_tokens_per_second:,.0f}",
            f"{row.throughput_ratio:.2f}",
            f"{row.median.ttft_p50_ms:,.0f} ms",
            f"{row.ttft_ratio:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
