"""The queue as callers meet it: whose answers come first, and what those are told who cannot wait."""

import asyncio
from collections.abc import Awaitable

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2
from adaptory.serve.v1 import serve_service_pb2
from serve_svc.settings import ServeSettings
from tests.fakes.server import Stage, key_of, question, reason_of, retry_after_s
from tests.unit.serve.test_metrics import scrape

REFUSALS = 'adaptory_serve_queue_refusals_total{reason="QUEUE_FULL",urgency="chat"}'


async def waiting(stage: Stage, number: int) -> None:
    """Return when so many requests wait for a place."""
    async with asyncio.timeout(10):
        while sum(value for name, value in (await scrape(stage)).items() if "requests_waiting{" in name) < number:
            pass


async def ask_all(stage: Stage, names: list[str], *, then_waiting: int) -> list[Awaitable[object]]:
    """Ask bots, and return the calls when so many wait."""
    calls: list[Awaitable[object]] = []
    for name in names:
        key = key_of(f"adk_{name.split('/')[1]}")
        if "/code/" in name:
            request = serve_service_pb2.CompleteRequest(name=name, prefix="x")
            calls.append(stage.chat.CompleteUnary(request, metadata=key))
        else:
            calls.append(stage.chat.ChatUnary(question(name, max_output_tokens=2), metadata=key))
    await waiting(stage, then_waiting)
    return calls


@pytest.fixture
async def narrow(stage: Stage) -> Stage:
    """A server of one place, which a request of the flooder holds, and ten tenants with a bot for each purpose."""
    await stage.stop()
    stage.overrides |= {"max_in_flight": 1, "max_waiting": 32}
    await stage.start()
    for tenant in ["flooder", *(f"quiet{number}" for number in range(9))]:
        stage.add_bot(f"tenants/{tenant}/bots/faq", key=f"adk_{tenant}")
        code = f"tenants/{tenant}/bots/code"
        stage.registry.put_bot(code, base_model="tiny", kind=bot_pb2.BOT_KIND_CODE_COMPLETION)
    await stage.followed()
    return stage


@pytest.fixture
async def held(narrow: Stage) -> "asyncio.Task[object]":
    """The request that holds the place until the engine goes on."""
    narrow.engine.pause_after(1)
    call = narrow.chat.ChatUnary(
        question("tenants/flooder/bots/faq/versions/0", max_output_tokens=3), metadata=key_of("adk_flooder")
    )
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(10):
        while not narrow.engine.requests:
            await narrow.residency()
    return task


async def test_a_flood_is_answered_beside_others_not_before_them(narrow: Stage, held: "asyncio.Task[object]") -> None:
    """Twenty requests came before nine of others, one each; no other waits for more than one of the twenty."""
    flood = ["tenants/flooder/bots/faq/versions/0"] * 20
    quiet = [f"tenants/quiet{number}/bots/faq/versions/0" for number in range(9)]
    calls = await ask_all(narrow, flood, then_waiting=20)
    calls += await ask_all(narrow, quiet, then_waiting=29)

    narrow.engine.go_on()
    await asyncio.gather(held, *calls)

    of_flooder, *others = (request.cache_salt for request in narrow.engine.requests)
    assert [salt == of_flooder for salt in others[:10]].count(True) == 1
    assert len(set(others[:10])) == 10


async def test_who_weighs_three_times_as_much_is_served_three_times_as_much(
    narrow: Stage, held: "asyncio.Task[object]"
) -> None:
    """As the registry says now, while both have requests waiting."""
    narrow.registry.put_tenant("quiet0", "adk_quiet0", weight=3)
    await narrow.followed()
    calls = await ask_all(narrow, ["tenants/quiet0/bots/faq/versions/0"] * 12, then_waiting=12)
    calls += await ask_all(narrow, ["tenants/quiet1/bots/faq/versions/0"] * 12, then_waiting=24)

    narrow.engine.go_on()
    await asyncio.gather(held, *calls)

    _, *salts = (request.cache_salt for request in narrow.engine.requests)
    assert 8 <= salts[:12].count(salts[0]) <= 10


async def test_a_completion_is_answered_before_conversations(narrow: Stage, held: "asyncio.Task[object]") -> None:
    """Somebody types: what he waits for goes before answers that came earlier."""
    chats = [f"tenants/quiet{number}/bots/faq/versions/0" for number in range(3)]
    calls = await ask_all(narrow, chats, then_waiting=3)
    calls += await ask_all(narrow, ["tenants/quiet3/bots/code/versions/0"], then_waiting=4)

    narrow.engine.go_on()
    await asyncio.gather(held, *calls)

    assert narrow.engine.requests[1].sampling.stop_ids
    assert not any(request.sampling.stop_ids for request in narrow.engine.requests[2:])


async def test_a_full_queue_is_told_with_a_time_to_retry(narrow: Stage, held: "asyncio.Task[object]") -> None:
    """RESOURCE_EXHAUSTED with a RetryInfo, for those with most waiting; it is counted, and no tenant named."""
    flood = ["tenants/flooder/bots/faq/versions/0"] * 20
    crowd = [f"tenants/quiet{number % 6}/bots/faq/versions/0" for number in range(12)]
    calls = await ask_all(narrow, flood, then_waiting=20)
    calls += await ask_all(narrow, crowd, then_waiting=32)
    calls += await ask_all(narrow, ["tenants/quiet8/bots/faq/versions/0"], then_waiting=32)
    async with asyncio.timeout(10):
        while not (await scrape(narrow)).get(REFUSALS):
            pass
    narrow.engine.go_on()
    ends = await asyncio.gather(held, *calls, return_exceptions=True)

    (refusal,) = (end for end in ends[1:21] if isinstance(end, grpc.aio.AioRpcError))
    assert not [end for end in ends if isinstance(end, BaseException) and end is not refusal]
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refusal) == "QUEUE_FULL"
    assert retry_after_s(refusal) > 0
    samples = await scrape(narrow)
    assert samples[REFUSALS] == 1
    assert samples['adaptory_serve_queue_seconds_count{urgency="chat"}'] == 33


async def test_a_shadow_is_dropped_where_it_would_take_the_last_place(stage: Stage) -> None:
    """Production's answer is whole, so nothing runs; yet the one place there is stays free for whoever comes next."""
    await stage.stop()
    stage.overrides["max_in_flight"] = 1
    await stage.start()
    bot = "tenants/acme/bots/faq"
    stage.add_bot(bot, key="adk_acme")
    for number in (1, 2):
        stage.add_version(f"{bot}/versions/{number}")
    stage.cast_shadow(f"{bot}/versions/2", production=f"{bot}/versions/1")
    await stage.followed()

    await stage.chat.ChatUnary(question(bot, max_output_tokens=1), metadata=key_of("adk_acme"))

    dropped = f'adaptory_serve_shadow_answers_total{{bot="{bot}",result="dropped",tenant="acme"}}'
    async with asyncio.timeout(10):
        while not (samples := await scrape(stage)).get(dropped):
            pass
    assert samples['adaptory_serve_queue_refusals_total{reason="SHADOW_DROPPED",urgency="shadow"}'] == 1


def test_a_budget_of_tokens_below_one_request_is_refused() -> None:
    """Such a server could not run what it accepts beside anything else."""
    with pytest.raises(ValueError, match="max_tokens_in_flight 100 must not be below max_model_tokens 2048"):
        ServeSettings(max_tokens_in_flight=100)


def test_steps_of_fewer_tokens_than_answers_are_refused() -> None:
    """A step that cannot give each answer its token would leave some of them standing."""
    with pytest.raises(ValueError, match="max_step_tokens 16 must not be below max_in_flight 12 and kept_places 5"):
        ServeSettings(max_step_tokens=16, max_in_flight=12, kept_places=5)


def test_how_many_prompt_tokens_begin_together_follows_the_device() -> None:
    """Left out it is what two cores read in a quarter of a second, and on a GPU enough for two steps; what is set stands."""
    limits = [
        ServeSettings(max_step_tokens=4096, max_unread_tokens=told).admission_limits(on_cpu=on_cpu)
        for told, on_cpu in ((None, True), (None, False), (100, True))
    ]

    assert [limit.places.max_unread_tokens for limit in limits] == [512, 8192, 100]
