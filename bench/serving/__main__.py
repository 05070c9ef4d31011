"""One run of one side: `python -m bench.serving FOLDER`, for `bench.serve`, which leaves `run.json` there and reads `result.json`.

Prints the name of each phase as it begins, a line each.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from adaptory.core.base_model import PreparedBase
from bench.serving.course import Stand, count_swaps, run_course
from bench.serving.door import Door
from bench.serving.our_door import open_our_door
from bench.serving.scenario import Scenario, SideResult, SideRun, find_scenario, read_run, write_json
from bench.serving.shelf import AdapterShelf


def main(folder: Path) -> None:
    """Run what the folder asks for."""
    # As an exception it passes the places that end the service and the engine.
    signal.signal(signal.SIGTERM, _end)
    run = read_run(folder / "run.json")
    write_json(asyncio.run(_run(run)), folder / "result.json")


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


async def _run(run: SideRun) -> SideResult:
    scenario = find_scenario(run.scenario)
    _tell_phase("start")
    async with _open_door(run, scenario) as door:
        stand = Stand(door, scenario, run.seconds, run.seed, run.rate, _tell_phase)
        return await run_course(stand)


@asynccontextmanager
async def _open_door(run: SideRun, scenario: Scenario) -> AsyncIterator[Door]:
    base, shelf = PreparedBase.open(Path(run.base)), AdapterShelf(Path(run.shelf))
    # The base is asked as a tenant's, whose bot has an adapter that nobody asks.
    num_speakers = max(1, scenario.num_speakers)
    if run.side == "ours":
        num_versions = count_swaps(run.seconds) + 1 if scenario.kind == "swaps" else 1
        folder = Path(run.folder) / "services"
        async with open_our_door(
            base,
            shelf,
            num_speakers=num_speakers,
            num_slots=scenario.num_slots,
            num_versions=num_versions,
            folder=folder,
        ) as door:
            yield door
        return
    # Takes seconds, and reads the environment that its parent has set.
    from bench.serving.bare_door import open_bare_door  # noqa: PLC0415

    async with open_bare_door(base, shelf, num_speakers=num_speakers, num_slots=scenario.num_slots) as door:
        yield door


def _tell_phase(name: str) -> None:
    print(name, flush=True)


# vLLM's engine process imports this file again.
if __name__ == "__main__":
    main(Path(sys.argv[1]))
