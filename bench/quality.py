"""Bots made of real data, judged before and after: `python -m bench.quality --data DIR [--json] [--only WORD] [--max-rows N]`.

Every file below the folder in one of the product's formats goes the whole way: judged, split, planned, trained in a worker under a
limit, scored against its base on rows held out, and through the gate. Files too large for a test run are cut to their first rows,
and trainings to so many tokens; the table says how much was used. FAQ data without other wordings is judged by its
questions reworded.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import track

from adaptory.cli.failure import report_failure
from adaptory.cli.sizes import parse_bytes
from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.errors import InvalidRequest, ServiceError
from bench.quality_report import build_document, build_table
from bench.quality_run import Course, Effort, Outcome, Refusal
from bench.quality_sample import list_data_files
from examples.demo.bots import BASE_MODEL
from trainer_svc.job_requests import MAX_LEARNING_RATE
from trainer_svc.jobs.machine import LocalMachine

# With these a file takes some minutes on two cores that do nothing else.
_MAX_ROWS, _MAX_ROW_TOKENS, _MAX_TRAIN_TOKENS = 100, 512, 100_000
_LOG_WIDTH = 150


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the children and clear their folders.
    signal.signal(signal.SIGTERM, _end)
    try:
        effort = _read_effort(arguments)
        with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as folder:
            found = list(_take_all(arguments, effort, Path(folder)))
    except ServiceError as error:
        return report_failure(error, as_json=arguments.json)
    if arguments.json:
        print(json.dumps(build_document(found, settings={"base": arguments.base, **asdict(effort)})))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
        console.print(build_table(found))
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of data files, or one file")
    parser.add_argument("--only", default="", help="only the files whose path below the folder has this in it")
    parser.add_argument("--base", default=BASE_MODEL, help=f"a prepared base (default {BASE_MODEL})")
    parser.add_argument("--limit", default="2GiB", help="memory limit of each job (default 2GiB)")
    parser.add_argument(
        "--max-rows", type=int, default=_MAX_ROWS, help=f"rows used of a file at most (default {_MAX_ROWS})"
    )
    parser.add_argument(
        "--max-row-tokens",
        type=int,
        default=_MAX_ROW_TOKENS,
        help=f"tokens of a row at most, entries with longer ones are left out (default {_MAX_ROW_TOKENS})",
    )
    parser.add_argument(
        "--max-train-tokens",
        type=int,
        default=_MAX_TRAIN_TOKENS,
        help=f"tokens trained on at most, over all epochs (default {_MAX_TRAIN_TOKENS:,})",
    )
    parser.add_argument(
        "--epochs", type=int, help="epochs of every job, within those tokens (default: those of its recipe)"
    )
    parser.add_argument(
        "--learning-rate", type=float, help="peak learning rate of every job (default: that of its recipe)"
    )
    parser.add_argument("--system-prompt", default="", help="what FAQ and support bots are told before everything else")
    parser.add_argument("--refusal", default="", help="what FAQ bots are taught to say where their data has no answer")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


def _read_effort(arguments: argparse.Namespace) -> Effort:
    caps = {name: getattr(arguments, name) for name in ("max_rows", "max_row_tokens", "max_train_tokens")}
    for name, value in {**caps, "epochs": arguments.epochs}.items():
        if value is not None and value < 1:
            raise InvalidRequest.of_field(
                f"--{name.replace('_', '-')}", f"is {value}; it must be 1 or more", value=value
            )
    rate = arguments.learning_rate
    if rate is not None and not 0 < rate <= MAX_LEARNING_RATE:
        raise InvalidRequest.of_field(
            "--learning-rate", f"is {rate:g}; it must be above 0 and at most {MAX_LEARNING_RATE:g}", value=rate
        )
    return Effort(
        limit_bytes=parse_bytes(arguments.limit, field="--limit"),
        **caps,
        epochs=arguments.epochs,
        learning_rate=rate,
        system_prompt=arguments.system_prompt,
        refusal_text=arguments.refusal,
    )


def _take_all(arguments: argparse.Namespace, effort: Effort, folder: Path) -> Iterator[Outcome | Refusal]:
    """Yield what became of each file. Raises InvalidRequest where there is none, NotFound or FailedPrecondition for the base."""
    root: Path = arguments.data
    files = {_name(path, root): path for path in ([root] if root.is_file() else list_data_files(root))}
    chosen = {name: path for name, path in files.items() if arguments.only in name}
    if not chosen:
        found = f"{len(files)} files that may be data, none with {arguments.only!r} in its path" if files else "no data"
        raise InvalidRequest.of_field("--data", f"{root} has {found}; docs/data.md has the formats")
    cache_root = default_cache_root()
    course = Course(find_base(arguments.base, cache_root), LocalMachine(cache_root), effort, folder)
    console = Console(stderr=True)
    for name, path in track(chosen.items(), description="Files", console=console, transient=True):
        yield course.take(path, name)


def _name(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


if __name__ == "__main__":
    sys.exit(main())
