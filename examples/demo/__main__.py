"""Runs the demo: `python -m examples.demo [--steps N] [--limit SIZE]`, or `make demo`."""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from adaptory.cli.sizes import parse_bytes
from adaptory.client import RpcFailed
from adaptory.core.errors import InvalidRequest
from examples.demo.bots import BASE_MODEL
from examples.demo.display import print_report, write_page
from examples.demo.narrator import Narrator
from examples.demo.report import DemoReport
from examples.demo.services import ServiceEnded
from examples.demo.story import DemoSettings, tell_story

OUT_DIR = Path(".adaptory/demo")
DEFAULT_LIMIT = "1GiB"
_LOG_WIDTH = 120


def main() -> int:
    """Run the demo; return 0 when it showed all it promises, 1 when something failed, 2 on bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--steps", type=int, help="stop training after this many optimizer steps")
    parser.add_argument(
        "--limit", default=DEFAULT_LIMIT, help=f"memory limit of each training job (default {DEFAULT_LIMIT})"
    )
    arguments = parser.parse_args()
    # A log has no width of its own; the tables want some.
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    try:
        settings = DemoSettings(
            memory_limit_bytes=parse_bytes(arguments.limit, field="--limit"),
            max_steps=arguments.steps,
            state_dir=(OUT_DIR / "state").absolute(),
            cards_dir=OUT_DIR / "cards",
            setup_seconds=float(os.environ.get("ADAPTORY_SETUP_SECONDS") or 0),
        )
        report = _run(settings, console)
    except InvalidRequest as error:
        console.print(Text(error.message, style="bold red"))
        return 2
    except (RpcFailed, ServiceEnded, OSError, subprocess.CalledProcessError) as error:
        console.print(Text(f"The demo could not be finished. {error}", style="bold red"), soft_wrap=True)
        return 1
    return _conclude(report, console)


def _run(settings: DemoSettings, console: Console) -> DemoReport:
    narrator = Narrator(console)
    narrator.tell(f"Preparing the base model {BASE_MODEL}, once for all companies")
    subprocess.run([sys.executable, "-m", "adaptory.cli", "models", "prepare", BASE_MODEL], check=True)  # noqa: S603 - our own
    return asyncio.run(_tell(settings, narrator))


async def _tell(settings: DemoSettings, narrator: Narrator) -> DemoReport:
    # Stopped from outside the story still ends both services, as Ctrl-C does.
    story = asyncio.ensure_future(tell_story(settings, narrator))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
    return await story


def _conclude(report: DemoReport, console: Console) -> int:
    file, page = OUT_DIR / "report.json", OUT_DIR / "report.html"
    report.write(file)
    write_page(report, page)
    print_report(console, report)
    console.print(
        f"{report.wall_seconds:.0f} s in all; every answer and number is in {file}, the tables in {page}",
        soft_wrap=True,
    )
    return 1 if report.find_failures() else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
