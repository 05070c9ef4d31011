"""How soon a promoted version answers, against a warm request: `python -m bench.hotload [--versions N] [--json]`.

Starts both services, trains N short versions of one bot, and promotes one after the other. A cold promotion fetches, checks and loads
the adapter; a warm one returns to an adapter that is in the engine; the warm request is what either is compared with.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adaptory.client import AdaptoryClient, RpcFailed, Upload
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot, QualityGate
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL
from adaptory.trainer.v1.training_job_pb2 import TrainingJob, TrainingSettings
from examples.demo.bots import BASE_MODEL
from examples.demo.companies import COMPANIES
from examples.demo.hot_load import ask_first_token, time_hot_load
from examples.demo.services import run_services

_COMPANY = COMPANIES[0]
_TRAIN_STEPS = 2
_ANY_LOSS = 100.0
_NUM_WARM_REQUESTS = 15


@dataclass(frozen=True, slots=True)
class HotLoads:
    """Seconds to the first token: of warm requests, after promotions of versions the engine did not have, and of those it had."""

    warm_request_s: list[float]
    cold_promotion_s: list[float]
    warm_promotion_s: list[float]


def main() -> int:
    """Measure and print; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.hotload", description=__doc__)
    parser.add_argument("--versions", type=int, default=4, help="versions to train and promote (default 4, at least 2)")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args()
    if arguments.versions < 2:  # noqa: PLR2004 - a return to a version needs another one
        parser.error("--versions must be at least 2")
    with tempfile.TemporaryDirectory(prefix="adaptory-hotload-") as folder:
        loads = asyncio.run(_measure(Path(folder), arguments.versions))
    if arguments.json:
        print(json.dumps({"medians": _medians(loads), "seconds": asdict(loads)}))
    else:
        _print_table(loads)
    return 0


async def _measure(folder: Path, num_versions: int) -> HotLoads:
    async with run_services(folder) as services:
        async with services.open_client(services.admin_key) as operator:
            await operator.tenants.create(_COMPANY.tenant_id)
            key = await operator.tenants.create_key(_COMPANY.tenant)
        async with services.open_client(key.secret) as client:
            versions = await _train_versions(client, num_versions)
            return await _promote_all(client, versions)


async def _train_versions(client: AdaptoryClient, num_versions: int) -> list[str]:
    # So few steps teach little; here only the loading counts.
    gate = QualityGate(max_loss_ratio=_ANY_LOSS)
    bot = Bot(kind=BOT_KIND_FAQ, base_model=BASE_MODEL, system_prompt=_COMPANY.system_prompt, quality_gate=gate)
    await client.bots.create(_COMPANY.tenant, "faq", bot)
    upload = Upload(_COMPANY.training_file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL)
    dataset = await client.datasets.upload(_COMPANY.tenant, upload)
    versions = []
    for seed in range(num_versions):
        settings = TrainingSettings(max_steps=_TRAIN_STEPS, seed=seed)
        job = await client.jobs.create(TrainingJob(bot=_COMPANY.bot, dataset=dataset.name, settings=settings))
        async for _ in client.jobs.watch(job.name):
            pass
        ended = await client.jobs.get(job.name)
        if ended.state != TrainingJob.STATE_SUCCEEDED:
            raise RpcFailed.from_status(ended.error)
        versions.append(ended.version)
        print(f"trained {ended.version}", file=sys.stderr)
    return versions


async def _promote_all(client: AdaptoryClient, versions: list[str]) -> HotLoads:
    question = _COMPANY.read_questions()[0].question
    # The engine's very first request builds what later ones find.
    await ask_first_token(client, f"{_COMPANY.bot}/versions/0", question)
    cold = [await time_hot_load(client, version, question) for version in versions]
    warm_requests = [(await ask_first_token(client, _COMPANY.bot, question))[0] for _ in range(_NUM_WARM_REQUESTS)]
    warm = [await time_hot_load(client, version, question) for version in versions]
    return HotLoads(warm_requests, cold, warm)


def _medians(loads: HotLoads) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in asdict(loads).items()}


def _print_table(loads: HotLoads) -> None:
    medians = _medians(loads)
    warm_s = medians["warm_request_s"]
    table = Table("to the first token", "median", "against a warm request", "slowest", title="Hot load")
    for name, seconds in asdict(loads).items():
        median_s = medians[name]
        cells = (f"{median_s * 1000:,.0f} ms", f"{median_s / warm_s:.1f} times", f"{max(seconds) * 1000:,.0f} ms")
        table.add_row(name.removesuffix("_s").replace("_", " "), *cells)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
