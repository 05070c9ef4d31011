"""`python -m trainer_svc [--config FILE]`: serve until SIGTERM or SIGINT, then drain.

Prints one JSON line, `trainer_ready` with its addresses, when calls are answered. Exits 2 when the settings cannot be used.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from adaptory.core.errors import ServiceError
from adaptory.core.logs import configure_logging
from trainer_svc.app import run_trainer
from trainer_svc.settings import TrainerSettings

_BAD_SETTINGS = 2


def main() -> int:
    """Run the trainer and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer_svc", description="Trains adapters and keeps the registry."
    )
    parser.add_argument("--config", type=Path, help="a TOML file of settings; the environment wins over it")
    arguments = parser.parse_args()
    configure_logging(service="trainer")
    try:
        asyncio.run(serve(TrainerSettings.load(arguments.config)))
    except ServiceError as error:
        print(error.message, file=sys.stderr)
        return _BAD_SETTINGS
    return 0


async def serve(settings: TrainerSettings) -> None:
    """Serve until a signal asks to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with run_trainer(settings) as endpoint:
        print(json.dumps({"event": "trainer_ready", **endpoint.addresses()}), flush=True)
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(main())
