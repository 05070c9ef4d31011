"""`python -m serve_svc [--config FILE]`: serve until SIGTERM or SIGINT, then drain.

Prints one JSON line, `serve_ready` with its addresses, when the engine has come up. Exits 2 when the settings cannot be used, 1 when
the engine cannot be built.
"""

import argparse
import asyncio
import json
import signal
import sys
from functools import partial
from pathlib import Path

from adaptory.core.errors import ServiceError
from adaptory.core.logs import configure_logging
from serve_svc.adapters.capacity import plan_capacity
from serve_svc.app import run_server
from serve_svc.engine.engine import EngineDead
from serve_svc.engine.factory import build_vllm_engine, computes_on_cpu
from serve_svc.model import open_model
from serve_svc.settings import ServeSettings

_NO_ENGINE = 1
_BAD_SETTINGS = 2


def main() -> int:
    """Run the server and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m serve_svc", description="Answers with every tenant's adapters on one base model."
    )
    parser.add_argument("--config", type=Path, help="a TOML file of settings; the environment wins over it")
    arguments = parser.parse_args()
    configure_logging(service="serve")
    try:
        asyncio.run(serve(ServeSettings.load(arguments.config)))
    except EngineDead as error:
        print(error.message, file=sys.stderr)
        return _NO_ENGINE
    except ServiceError as error:
        print(error.message, file=sys.stderr)
        return _BAD_SETTINGS
    return 0


async def serve(settings: ServeSettings) -> None:
    """Serve until a signal asks to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    model = open_model(settings)
    capacity = plan_capacity(settings, model.shape, model.weights_bytes, on_cpu=computes_on_cpu())
    settings = settings.model_copy(update={"max_cpu_loras": capacity.max_resident})
    build_engine = partial(build_vllm_engine, model.weights_dir, model.base.name, settings.engine_settings())
    async with run_server(settings, model, build_engine) as endpoint:
        print(json.dumps({"event": "serve_ready", **endpoint.addresses()}), flush=True)
        await stopping.wait()


# vLLM's engine process imports this file again; it must not start a server of its own.
if __name__ == "__main__":
    sys.exit(main())
