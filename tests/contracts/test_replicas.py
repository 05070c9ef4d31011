"""Several servers follow one trainer: each changes over to what is promoted, none goes back, and limits hold for all together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from adaptory.registry.v1 import registry_service_pb2, tenant_pb2
from tests.fakes.replica import Replica, run_replica
from tests.fakes.server import question, reason_of
from tests.fakes.trainer import Metadata, Trainer

BOT = "tenants/acme/bots/faq"
NUM_REPLICAS = 3
DAY_TOKENS = 2_000


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer with nothing in it."""
    async with Trainer(tmp_path / "trainer") as trainer:
        yield trainer


@pytest.fixture
async def key(trainer: Trainer) -> Metadata:
    """The key of acme, whose bot has three versions, the first of which answers."""
    key = await trainer.add_tenant("acme")
    for seed in range(1, 4):
        await trainer.train("acme", rank=8, seed=seed)
    await promote(trainer, 1)
    return key


@pytest.fixture
async def replicas(trainer: Trainer, key: Metadata, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    """Three servers that have followed."""
    async with AsyncExitStack() as running:
        servers = [running.enter_async_context(run_replica(trainer, tmp_path / str(n))) for n in range(NUM_REPLICAS)]
        started = [await server for server in servers]
        for replica in started:
            await until(replica, key, 1)
        yield started


async def promote(trainer: Trainer, number: int) -> None:
    """Have a version answer."""
    request = registry_service_pb2.PromoteVersionRequest(name=f"{BOT}/versions/{number}")
    await trainer.registry.PromoteVersion(request, metadata=trainer.admin)


async def until(replica: Replica, key: Metadata, number: int) -> list[int]:
    """Ask a server again and again until this version answers; return the versions that did.

    It asks again, too, while the engine is restarted, as UNAVAILABLE has a client do.
    """
    answered: list[int] = []
    async with asyncio.timeout(10):
        while number not in answered:
            try:
                answered.append(await replica.version_of(BOT, key))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
    return answered


async def test_every_server_changes_over_and_none_goes_back(
    trainer: Trainer, key: Metadata, replicas: list[Replica]
) -> None:
    """While two promotions follow each other, each server answers by versions that only get newer, and ends at the last."""
    asked = [asyncio.create_task(until(replica, key, 3)) for replica in replicas]
    await promote(trainer, 2)
    await promote(trainer, 3)

    for answered in await asyncio.gather(*asked):
        assert answered == sorted(answered)
    generations = {(await replica.residency()).generation for replica in replicas}
    assert len(generations) == 1


async def test_a_server_that_starts_late_begins_with_what_the_others_serve(
    trainer: Trainer, key: Metadata, replicas: list[Replica], tmp_path: Path
) -> None:
    """It never answers by a version that was replaced before it came."""
    await promote(trainer, 2)
    for replica in replicas:
        await until(replica, key, 2)
    generation = (await replicas[0].residency()).generation

    async with run_replica(trainer, tmp_path / "late") as late:
        await late.followed(generation)

        assert await late.version_of(BOT, key) == 2


async def test_a_canary_that_fails_at_one_server_ends_at_all(
    trainer: Trainer, key: Metadata, replicas: list[Replica]
) -> None:
    """The server that found it out tells the registry, and the registry all others, with the reason in the bot's history."""
    canary = f"{BOT}/versions/2"
    request = registry_service_pb2.SetCanaryRequest(name=canary, percent=100)
    bot = await trainer.registry.SetCanary(request, metadata=trainer.admin)
    for replica in replicas:
        await until(replica, key, 2)
    replicas[0].engines[-1].corrupt(canary)

    with pytest.raises(grpc.aio.AioRpcError):
        await replicas[0].version_of(BOT, key)

    for replica in replicas:
        await until(replica, key, 1)
    get = registry_service_pb2.GetBotRequest(name=bot.name)
    assert not (await trainer.registry.GetBot(get, metadata=trainer.admin)).routes.canary


async def test_the_tokens_of_a_day_are_used_up_at_all_servers_together(
    trainer: Trainer, key: Metadata, replicas: list[Replica]
) -> None:
    """What one server answered counts against what the others may still answer."""
    limits = tenant_pb2.TenantLimits(tokens_per_day=DAY_TOKENS)
    update = registry_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name="tenants/acme", limits=limits),
        update_mask=FieldMask(paths=["limits.tokens_per_day"]),
    )
    await trainer.registry.UpdateTenant(update, metadata=trainer.admin)
    first, *others = replicas

    refused, num_tokens = await use_up(first, key)
    assert reason_of(refused) == "TOKENS_PER_DAY"
    assert num_tokens > DAY_TOKENS / 2

    for replica in others:
        refused, num_tokens = await use_up(replica, key)
        assert reason_of(refused) == "TOKENS_PER_DAY"
        assert num_tokens < DAY_TOKENS


async def use_up(replica: Replica, key: Metadata) -> tuple[grpc.aio.AioRpcError, int]:
    """Ask until the server refuses, with time for the ledger to tell; return the refusal and the tokens answered before."""
    num_tokens = 0
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await replica.chat.ChatUnary(question(BOT, max_output_tokens=8), metadata=key)
            except grpc.aio.AioRpcError as error:
                return error, num_tokens
            num_tokens += answer.finish.num_prompt_tokens + answer.finish.num_output_tokens
            await asyncio.sleep(0.1)
