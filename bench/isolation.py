"""Tenants apart: answers of bots that share questions and an engine: `python -m bench.isolation --data FILE --tenants N [--json]`.

FILE has a row on each line with `entity`, `question` and `answer`. The N entities that share the most questions become tenants; each
one's bot is trained on all its answers by the product's services, in a worker under a limit, and promoted. They are served on fewer
slots than there are tenants, and every question that two or more of them have is asked of each that has it: one at a time with nobody
else on the server, then all of them at once in a random order. All answers are greedy, and no bot has a system prompt: the same
question is the same tokens for every tenant. An answer that is not byte for byte what the bot says alone may be a tie between two
tokens, which a batch of another size decides otherwise in bf16; it is counted.

An answer is *another's* where it is nearer to what another tenant answers to the same question than to what its own tenant does, and
the two differ: its token F1 with the other's is higher, or it holds all the facts that the other's has beyond its own, and not all of
its own's. It is *right* where it is not another's and either has a token F1 of 0.8 with its own or holds all the facts of its own, of
which there must be some. Everything else is *wrong*.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from adaptory.cli.failure import report_failure
from adaptory.cli.sizes import parse_bytes
from adaptory.client import RpcFailed
from adaptory.core.errors import InvalidRequest, ServiceError
from bench.isolation_data import Entity, choose_entities, read_entities
from bench.isolation_report import build_document, build_table
from bench.isolation_run import Effort, OnStep, ask_all, make_tenant, train
from bench.isolation_verdict import Tally
from examples.demo.bots import BASE_MODEL
from examples.demo.services import ServiceEnded, run_services

# With it a tenant of forty rows is trained in a minute and a half on two cores that do nothing else.
_MAX_TRAIN_TOKENS = 30_000
_LOG_WIDTH = 130


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the services and clear their folders.
    signal.signal(signal.SIGTERM, _end)
    num_slots = arguments.slots or arguments.tenants // 2
    try:
        effort = _read_effort(arguments)
        entities = choose_entities(read_entities(arguments.data), arguments.tenants)
        if not 1 <= num_slots < arguments.tenants:
            sentence = f"is {num_slots}; it must be at least 1 and less than the {arguments.tenants} tenants"
            raise InvalidRequest.of_field("--slots", sentence)
        with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as folder:
            tallies = asyncio.run(_measure(entities, effort, num_slots, Path(folder)))
    except (ServiceError, RpcFailed) as error:
        return report_failure(error, as_json=arguments.json)
    except ServiceEnded as ended:
        return report_failure(ServiceError(str(ended)), as_json=arguments.json)
    if arguments.json:
        settings = {"data": arguments.data.name, "tenants": arguments.tenants, "slots": num_slots, **asdict(effort)}
        print(json.dumps(build_document(tallies, settings=settings)))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
        console.print(build_table(tallies, num_slots=num_slots))
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.isolation", description=__doc__, formatter_class=formatter)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with entity, question and answer")
    parser.add_argument("--tenants", type=int, default=6, help="entities to train and serve (default 6, at least 2)")
    parser.add_argument("--slots", type=int, help="adapters in a batch (default half of the tenants)")
    parser.add_argument("--base", default=BASE_MODEL, help=f"a prepared base (default {BASE_MODEL})")
    parser.add_argument("--limit", default="1GiB", help="memory limit of each job (default 1GiB)")
    parser.add_argument(
        "--max-train-tokens",
        type=int,
        default=_MAX_TRAIN_TOKENS,
        help=f"tokens each tenant is trained on at most, over all epochs (default {_MAX_TRAIN_TOKENS:,})",
    )
    parser.add_argument("--repeats", type=int, default=3, help="times each question is asked in the mix (default 3)")
    parser.add_argument("--streams", type=int, default=16, help="questions asked at once in the mix (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in the mix (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


def _read_effort(arguments: argparse.Namespace) -> Effort:
    for name in ("max_train_tokens", "repeats", "streams"):
        if (value := getattr(arguments, name)) < 1:
            raise InvalidRequest.of_field(f"--{name.replace('_', '-')}", f"is {value}; it must be 1 or more")
    return Effort(
        base=arguments.base,
        limit_bytes=parse_bytes(arguments.limit, field="--limit"),
        max_train_tokens=arguments.max_train_tokens,
        repeats=arguments.repeats,
        num_streams=arguments.streams,
        seed=arguments.seed,
    )


async def _measure(entities: list[Entity], effort: Effort, num_slots: int, folder: Path) -> list[Tally]:
    """Train and ask. Raises RpcFailed, ServiceError or ServiceEnded."""
    settings = {"MAX_LORAS": str(num_slots), "BASE_MODEL": effort.base}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        # A step for each tenant, and one for the questions.
        bar = progress.add_task("Starting both services", total=len(entities) + 1)

        def tell(sentence: str) -> None:
            progress.update(bar, description=sentence)

        on_step: OnStep = tell
        services = await stack.enter_async_context(run_services(folder, settings))
        tenants = []
        for number, entity in enumerate(entities):
            tenants.append(tenant := await make_tenant(services, entity, number))
            await stack.enter_async_context(tenant.client)
            await train(tenant, effort, folder, on_step)
            progress.advance(bar)
        return await ask_all(tenants, effort, on_step)


if __name__ == "__main__":
    sys.exit(main())
