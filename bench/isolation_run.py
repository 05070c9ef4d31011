"""Tenants of real data through the product: created, trained in workers under a limit, promoted, and asked over gRPC."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptory.client import AdaptoryClient, RpcFailed, Upload
from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot, QualityGate
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL, Dataset
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.trainer.v1.training_job_pb2 import TrainingJob, TrainingSettings
from bench.isolation_data import Entity, list_shared, write_training_file
from bench.isolation_verdict import Tally, Told, tally
from examples.demo.services import Services
from trainer_svc.bots.faq import RECIPE

_BOT = "faq"
_OPTIONS = GenerationOptions(max_output_tokens=64, temperature=0)
# The gate asks for nothing: how well bots know their facts is counted here, whatever it is.
_ANY_LOSS = 100.0

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is trained and asked: the limit of a job, the tokens it trains on at most; times, streams and seed of the mix."""

    base: str
    limit_bytes: int
    max_train_tokens: int
    repeats: int
    num_streams: int
    seed: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """An entity with a bot that answers for it; its key opens the client."""

    entity: Entity
    bot: str
    client: AdaptoryClient


async def make_tenant(services: Services, entity: Entity, number: int) -> Tenant:
    """Create the entity's tenant and key. The caller closes the client."""
    name = f"tenants/t{number}"
    async with services.open_client(services.admin_key) as operator:
        await operator.tenants.create(f"t{number}", display_name=entity.name)
        key = await operator.tenants.create_key(name)
    return Tenant(entity, f"{name}/bots/{_BOT}", services.open_client(key.secret))


async def train(tenant: Tenant, effort: Effort, folder: Path, on_step: OnStep) -> None:
    """Train the tenant's bot on all its answers and promote it. Raises RpcFailed, and InvalidRequest for data that is refused.

    The bot has no system prompt: to a question of several tenants the engine gets the very same tokens from each.
    """
    parent, file = tenant.bot.partition("/bots/")[0], folder / f"{tenant.bot.replace('/', '-')}.jsonl"
    gate = QualityGate(max_loss_ratio=_ANY_LOSS, min_gain=-1)
    await tenant.client.bots.create(parent, _BOT, Bot(kind=BOT_KIND_FAQ, base_model=effort.base, quality_gate=gate))
    await asyncio.to_thread(write_training_file, tenant.entity, file)
    upload = Upload(file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL, "isolation", effort.base)
    dataset = await tenant.client.datasets.upload(parent, upload)
    if dataset.state != Dataset.STATE_READY:
        problems = "; ".join(f"line {problem.line}: {problem.reason}" for problem in dataset.report.problems)
        raise InvalidRequest.of_field("--data", f"of {tenant.entity.name!r} cannot be trained on: {problems}")
    wanted = TrainingJob(
        bot=tenant.bot,
        dataset=dataset.name,
        memory_limit_bytes=effort.limit_bytes,
        settings=TrainingSettings(max_steps=afford_steps(dataset, effort.max_train_tokens)),
    )
    job = await tenant.client.jobs.create(wanted)
    async for event in tenant.client.jobs.watch(job.name):
        if event.HasField("progress") and event.progress.num_steps:
            on_step(f"{tenant.entity.name}: step {event.progress.step} of {event.progress.num_steps}")
    ended = await tenant.client.jobs.get(job.name)
    if ended.state != TrainingJob.STATE_SUCCEEDED:
        raise RpcFailed.from_status(ended.error)
    await tenant.client.bots.promote(ended.version)
    await tenant.client.chat.wait_until_routed(ended.version)


def afford_steps(dataset: Dataset, max_train_tokens: int) -> int:
    """Return how many steps of rows of the mean length so many tokens are enough for; one at least."""
    tokens_of_a_step = RECIPE.batch_rows * dataset.report.num_tokens / dataset.report.num_rows
    return max(1, int(max_train_tokens / tokens_of_a_step))


async def ask_all(tenants: Sequence[Tenant], effort: Effort, on_step: OnStep) -> list[Tally]:
    """Ask every tenant the questions it shares, each alone, then all of them mixed; return how each tenant's answers are judged."""
    entities = [tenant.entity for tenant in tenants]
    asked = [(tenant, question) for tenant in tenants for question in list_shared(tenant.entity, entities)]
    alone = []
    for number, (tenant, question) in enumerate(asked, start=1):
        alone.append(await _ask(tenant, question))
        on_step(f"alone: {number} of {len(asked)} answers")
    mixed = await _ask_mixed(asked, effort, on_step)
    told = [
        Told(tenant.entity.name, question, quiet, tuple(answers))
        for (tenant, question), quiet, answers in zip(asked, alone, mixed, strict=True)
    ]
    return [tally([one for one in told if one.entity == entity.name], entity, entities) for entity in entities]


async def _ask_mixed(asked: Sequence[tuple[Tenant, str]], effort: Effort, on_step: OnStep) -> list[list[str]]:
    """Return the answers to each, asked `repeats` times in a random order, so many at once."""
    order = [place for place in range(len(asked)) for _ in range(effort.repeats)]
    random.Random(effort.seed).shuffle(order)  # noqa: S311 - to be repeatable, not secret
    answers: list[list[str]] = [[] for _ in asked]
    waiting = iter(order)

    async def keep_asking() -> None:
        for place in waiting:
            answers[place].append(await _ask(*asked[place]))
            on_step(f"mixed: {sum(map(len, answers))} of {len(order)} answers")

    async with asyncio.TaskGroup() as streams:
        for _ in range(effort.num_streams):
            streams.create_task(keep_asking())
    return answers


async def _ask(tenant: Tenant, question: str) -> str:
    pieces = [piece.text async for piece in tenant.client.chat.stream(tenant.bot, question, options=_OPTIONS)]
    return "".join(pieces)
