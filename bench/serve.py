"""serve_svc over gRPC against bare AsyncLLM: `python -m bench.serve [--json] [--scenario NAME]... [--seconds S] [--plot FILE.png]`.

Both sides are asked the same prompts at the same times, of engines of the same size, each in a process of its own and one after the
other, scenario by scenario, so that a slow hour of the machine meets both. serve_svc is started as an operator starts it and follows
a registry that speaks the contract; its peer is vLLM's own Python interface, without gRPC, tenants, checks or a queue.

In a steady scenario throughput is that of a load which keeps 16 streams under way, and latencies are those of an open loop: Poisson
arrivals at half the rate that our side answered when saturated. Both draw adapters by Zipf with an exponent of 1, and from a seed.
Answers are greedy and of 24 to 40 tokens; tokens are counted as they come. Requests of one token, asked one at a time, tell what the
path itself adds: an engine on two cores wavers by more than that under load.

`flood` measures the first tokens of nine quiet tenants, without and with a tenth that asks for 20 times its share; figures are of the
nine with it. `swaps` promotes a version that the engine never saw, once a second, beside four streams; the bare engine gets an
`add_lora` instead. Memory is the resident memory of all of a side's processes; the bare side's has the load generator in it.

On the CPU both engines compute on the cores that serve_svc chooses; adapters are computed by each one's own path.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console

from adaptory.cli.failure import report_failure
from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.errors import ServiceError
from bench.cpu_clock import CpuClock
from bench.serve_bar import open_bar
from bench.serve_plot import draw_latencies
from bench.serve_report import build_document, build_tables
from bench.serve_run import Effort, Measured, Runner
from bench.serving.engine_size import SETTINGS
from bench.serving.scenario import SCENARIOS, Scenario
from examples.demo.bots import BASE_MODEL

# All scenarios then take some nineteen minutes on two cores that do nothing else.
_SECONDS = 12.0
_LOG_WIDTH = 150


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the children and clear their folders.
    signal.signal(signal.SIGTERM, _end)
    chosen = [one for one in SCENARIOS if one.name in (arguments.scenario or [one.name])]
    effort = Effort(arguments.seconds, arguments.seed, arguments.rounds)
    clock = CpuClock()
    try:
        measured = _measure(arguments.base, chosen, effort)
        foreign_cpu_share = clock.measure_foreign_share()
        if arguments.json:
            settings = {"base": arguments.base, **asdict(effort), "engine": SETTINGS}
            print(json.dumps(build_document(measured, settings=settings, foreign_cpu_share=foreign_cpu_share)))
        else:
            console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
            console.print(build_tables(measured, foreign_cpu_share=foreign_cpu_share))
        # Last: a picture that cannot be drawn must not cost a quarter of an hour of numbers.
        if arguments.plot:
            draw_latencies(measured, arguments.plot)
    except ServiceError as error:
        return report_failure(error, as_json=arguments.json)
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__, formatter_class=formatter)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="only this one; may be given several times")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"length of a phase (default {_SECONDS:g})")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals, prompts and adapters (default 0)")
    parser.add_argument("--rounds", type=int, default=1, help="times each side runs a scenario, in turns (default 1)")
    parser.add_argument("--base", default=BASE_MODEL, help=f"a prepared base (default {BASE_MODEL})")
    parser.add_argument("--plot", type=Path, help="draw first tokens and gaps of both sides into this PNG file")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args()
    if arguments.seconds < 1 or arguments.rounds < 1:
        parser.error("--seconds and --rounds must be at least 1")
    return arguments


def _measure(base_name: str, scenarios: Sequence[Scenario], effort: Effort) -> list[Measured]:
    """Run the scenarios. Raises ServiceError, NotFound or FailedPrecondition for the base among them."""
    base = find_base(base_name, default_cache_root())
    with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as folder, open_bar(scenarios, effort) as on_phase:
        return list(Runner(base, effort, Path(folder), on_phase).run_all(scenarios))


if __name__ == "__main__":
    sys.exit(main())
