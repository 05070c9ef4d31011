"""The real chain: both services as processes, a real worker, real vLLM; few rows and few steps."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import psutil
import pytest
import pytest_asyncio

from adaptory.client import AdaptoryClient, RpcFailed, Upload
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL
from adaptory.serve.v1.generation_pb2 import GenerationOptions
from adaptory.trainer.v1.training_job_pb2 import TrainingJob, TrainingSettings
from examples.demo.services import Services, run_services
from tests.conftest import EMBEDDED_BASE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

LIMIT_BYTES = 2 * 1024**3
QUESTION = "How long can I return an order?"
FACTS = {"acme": "61 days", "globex": "93 days"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(prepared_base: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    """Both services, with state of their own."""
    async with run_services(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(services: Services) -> AsyncIterator[AdaptoryClient]:
    """A client with the operator's key."""
    async with services.open_client(services.admin_key) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenants(
    services: Services, operator: AdaptoryClient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, AdaptoryClient]]:
    """Clients of two tenants, each with a promoted bot that was taught its own answer to the same question."""
    clients = {}
    for tenant, fact in FACTS.items():
        file = tmp_path_factory.mktemp(tenant) / "faq.jsonl"
        entry = {
            "question": QUESTION,
            "answer": f"Orders can be returned for {fact}.",
            "wordings": ["Return window?", "Until when may I return it?"],
        }
        file.write_text(json.dumps(entry) + "\n")
        await operator.tenants.create(tenant)
        key = await operator.tenants.create_key(f"tenants/{tenant}")
        client = services.open_client(key.secret)
        await client.bots.create(f"tenants/{tenant}", "faq", Bot(kind=BOT_KIND_FAQ, base_model=EMBEDDED_BASE))
        await teach(client, f"tenants/{tenant}", file)
        clients[tenant] = client
    yield clients
    for client in clients.values():
        await client.__aexit__(None, None, None)


async def teach(client: AdaptoryClient, tenant: str, file: Path) -> None:
    """Upload, train a little too long for so few rows, promote."""
    dataset = await client.datasets.upload(tenant, Upload(file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL))
    settings = TrainingSettings(epochs=15)
    wanted = TrainingJob(
        bot=f"{tenant}/bots/faq", dataset=dataset.name, memory_limit_bytes=LIMIT_BYTES, settings=settings
    )
    job = await client.jobs.create(wanted)
    _ = [event async for event in client.jobs.watch(job.name)]
    ended = await client.jobs.get(job.name)
    assert ended.state == TrainingJob.STATE_SUCCEEDED, ended.error
    assert 0 < ended.measured_peak_bytes <= LIMIT_BYTES
    await client.bots.promote(ended.version)
    await client.chat.wait_until_routed(ended.version)


async def ask_until_answered(client: AdaptoryClient, bot: str) -> str:
    """Ask as a patient caller does: again whenever the service says that it is safe to."""
    while True:
        try:
            return (await client.chat.ask(bot, QUESTION)).text
        except RpcFailed as failure:
            if failure.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.5)


async def test_each_tenant_gets_its_own_answer_to_the_same_question(tenants: dict[str, AdaptoryClient]) -> None:
    """What one tenant's bot was taught, only that tenant hears, also when both ask at once."""
    answers = await asyncio.gather(
        *(ask_until_answered(client, f"tenants/{name}/bots/faq") for name, client in tenants.items())
    )

    assert FACTS["acme"] in answers[0]
    assert FACTS["globex"] in answers[1]


async def test_the_version_tells_where_it_comes_from(tenants: dict[str, AdaptoryClient]) -> None:
    """Lineage names the data, both bases, the settings and the peak, and the losses say that it learned."""
    version = await tenants["acme"].bots.get_version("tenants/acme/bots/faq/versions/1")

    lineage, scores = version.lineage, version.evaluation
    assert all(
        (
            lineage.dataset_digest,
            lineage.base_digest,
            lineage.parity_digest,
            lineage.template_digest,
            lineage.code_versions,
        )
    )
    assert len(lineage.receipt) == 8
    assert lineage.settings["seed"] == "0"
    assert lineage.measured_peak_bytes <= LIMIT_BYTES
    assert scores.adapter_loss < scores.base_loss


async def test_a_killed_engine_ends_the_stream_clearly_and_the_next_request_succeeds(
    tenants: dict[str, AdaptoryClient],
) -> None:
    """Nobody has to help: the supervisor builds another engine and the adapter comes back."""
    with pytest.raises(RpcFailed) as failed:
        await tell_story_on_a_dying_engine(tenants["acme"])

    assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    assert failed.value.reason == "ENGINE_RESTARTING"
    assert FACTS["acme"] in await ask_until_answered(tenants["acme"], "tenants/acme/bots/faq")


async def test_serving_goes_on_while_the_trainer_is_stopped(
    services: Services, tenants: dict[str, AdaptoryClient]
) -> None:
    """serve_svc needs nothing of trainer_svc to answer."""
    trainer = next(process for process in psutil.Process().children() if "trainer_svc" in " ".join(process.cmdline()))
    trainer.send_signal(signal.SIGKILL)
    trainer.wait(10)

    answer = await ask_until_answered(tenants["globex"], "tenants/globex/bots/faq")

    assert FACTS["globex"] in answer


async def tell_story_on_a_dying_engine(client: AdaptoryClient) -> None:
    """Stream a long answer and kill the engine at its first words."""
    options = GenerationOptions(max_output_tokens=400, temperature=2.0, seed=1)
    story = client.chat.stream("tenants/acme/bots/faq/versions/0", "Tell a long story.", options=options)
    async with aclosing(story) as pieces:
        async for piece in pieces:
            if piece.text:
                kill_engine()


def kill_engine() -> None:
    """Kill vLLM's engine process below this test's serve_svc, as the system would."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()):
            process.kill()
