"""How the isolation measurement makes tenants of companies and asks them, with both services scripted."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adaptory.client import AdaptoryClient, RpcFailed
from adaptory.core.errors import InvalidRequest
from adaptory.trainer.v1.training_job_pb2 import TrainingJob
from bench.isolation_data import Entity
from bench.isolation_run import Effort, Tenant, ask_all, train
from bench.isolation_verdict import Tally
from tests.fakes.services import KEY, ScriptedServices

BOT = "tenants/aurora/bots/faq"
PETS = "Are pets allowed?"
OAK = Entity("Oak", {PETS: "No pets at Oak House.", "Is there a bar?": "No."})
ELM = Entity("Elm", {PETS: "Pets are welcome for free at Elm."})
EFFORT = Effort(base="tiny", limit_bytes=1 << 30, max_train_tokens=1, repeats=3, num_streams=2, seed=0)


def ignore(_sentence: str) -> None:
    """Show nothing."""


@pytest.fixture
async def services() -> AsyncIterator[ScriptedServices]:
    """Both services; the server routes the bot to what was promoted."""
    async with ScriptedServices() as services:
        services.serve.routes = [f"{BOT}/versions/1"]
        yield services


@pytest.fixture
async def client(services: ScriptedServices) -> AsyncIterator[AdaptoryClient]:
    """A client of both."""
    async with AdaptoryClient(KEY, trainer=services.trainer_address, server=services.server_address) as client:
        yield client


async def test_a_tenant_learns_all_its_answers_and_its_version_is_promoted(
    services: ScriptedServices, client: AdaptoryClient, tmp_path: Path
) -> None:
    """Questions it shares with nobody, too, and in no more steps than there are tokens for; its bot has no system prompt."""
    await train(Tenant(OAK, BOT, client), EFFORT, tmp_path, ignore)

    (data,) = services.registry.data.values()
    assert {row["question"]: row["answer"] for row in map(json.loads, data.splitlines())} == OAK.answers
    (job,) = services.trainer.jobs.values()
    assert (job.memory_limit_bytes, job.settings.max_steps) == (1 << 30, 1)
    bot = services.registry.bots[BOT]
    assert (bot.routes.production, bot.system_prompt, bot.base_model) == (f"{BOT}/versions/1", "", "tiny")


async def test_a_job_that_fails_ends_the_measurement(
    services: ScriptedServices, client: AdaptoryClient, tmp_path: Path
) -> None:
    """With what the service said of it."""
    services.script.job_ends = TrainingJob.STATE_FAILED

    with pytest.raises(RpcFailed, match="1,300 MiB"):
        await train(Tenant(OAK, BOT, client), EFFORT, tmp_path, ignore)


async def test_data_that_is_refused_ends_the_measurement(client: AdaptoryClient, tmp_path: Path) -> None:
    """With the line and the reason."""
    with pytest.raises(InvalidRequest, match="line 1: INVALID_JSON"):
        await train(Tenant(Entity("Ash"), BOT, client), EFFORT, tmp_path, ignore)


async def test_shared_questions_are_asked_alone_and_in_the_mix(
    services: ScriptedServices, client: AdaptoryClient
) -> None:
    """Each tenant's, once and then as often as wanted; a server that answers everybody with one tenant's words is found out."""
    services.script.answer = "No pets at Oak House."
    tenants = [Tenant(OAK, "tenants/oak/bots/faq", client), Tenant(ELM, "tenants/elm/bots/faq", client)]
    tallies = await ask_all(tenants, EFFORT, ignore)

    asked = Counter((request.name, request.messages[0].content) for request in services.serve.asked)
    assert asked == {("tenants/oak/bots/faq", PETS): 1 + 3, ("tenants/elm/bots/faq", PETS): 1 + 3}
    assert tallies == [
        Tally("Oak", asked=3, right=3, wrong=0, foreign=0, foreign_alone=0, differing=0),
        Tally("Elm", asked=3, right=0, wrong=0, foreign=3, foreign_alone=3, differing=0),
    ]
