"""Memory as predicted, simulated and measured here: `python -m bench.memory [--json] [--plot FILE.png] [--only WORD] [--jobs N]`.

Each case is one short job of the worker as the service runs it, in a fresh process under a limit a tenth above the prediction, on
the embedded base or one of random weights. Nothing is fitted to the run: predictions are those any plan is made of.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import track

from adaptory.cli.failure import report_failure
from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.errors import ServiceError
from bench.memory_cases import BASES, EMBEDDED, Case, list_cases
from bench.memory_report import build_document, build_table, draw_scatter
from bench.memory_run import Outcome, Runner
from bench.random_base.prepare import prepare_random_base
from trainer_svc.jobs.machine import LocalMachine

_LOG_WIDTH = 160


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the children and clear their folders.
    signal.signal(signal.SIGTERM, _end)
    cases = [case for case in list_cases() if arguments.only in case.base]
    try:
        with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as folder:
            outcomes = list(_run_all(cases, Path(folder), arguments.jobs))
        _show(outcomes, as_json=arguments.json)
        # Last: a picture that cannot be drawn must not cost half an hour of numbers.
        if arguments.plot:
            draw_scatter(outcomes, arguments.plot)
    except ServiceError as error:
        return report_failure(error, as_json=arguments.json)
    return 0


def _show(outcomes: list[Outcome], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(build_document(outcomes)))
        return
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    console.print(build_table(outcomes))


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw measured against predicted peaks into this PNG file")
    parser.add_argument("--only", default="", help="only the cases of bases whose name has this in it")
    parser.add_argument(
        "--jobs", type=int, default=1, help="cases run at once (default 1): bytes stay the same, seconds grow"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


def _run_all(cases: list[Case], folder: Path, num_jobs: int) -> Iterator[Outcome]:
    embedded = find_base(EMBEDDED, default_cache_root())
    machine = LocalMachine(default_cache_root())
    runner = Runner(folder, machine.read_speed(), machine.device)
    with ThreadPoolExecutor(num_jobs) as pool:
        names = sorted({case.base for case in cases} - {EMBEDDED})
        made = pool.map(lambda name: prepare_random_base(name, BASES[name], embedded, folder), names)
        bases = {EMBEDDED: embedded, **dict(zip(names, made, strict=True))}
        outcomes = pool.map(lambda case, number: runner.run(case, bases[case.base], number), cases, count())
        console = Console(stderr=True)
        yield from track(outcomes, total=len(cases), description="Cases", console=console, transient=True)


if __name__ == "__main__":
    sys.exit(main())
