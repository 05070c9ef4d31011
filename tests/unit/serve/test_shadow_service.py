"""A shadow through real stubs: who answers, what is compared, and what a shadow may not cost."""

import asyncio

import pytest

from adaptory.registry.v1 import bot_pb2
from adaptory.serve.v1 import serve_service_pb2
from tests.fakes.server import Stage, key_of, question
from tests.unit.serve.test_metrics import scrape

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
FIRST, SECOND = f"{BOT}/versions/1", f"{BOT}/versions/2"


@pytest.fixture
async def voices(stage: Stage) -> dict[str, str]:
    """The words of version 1, in production, and of version 2, its shadow."""
    stage.add_bot(BOT, key="adk_acme")
    voices = {version: stage.add_version(version) for version in (FIRST, SECOND)}
    stage.cast_shadow(SECOND, production=FIRST)
    await stage.followed()
    return voices


async def compared(stage: Stage, result: str, number: int = 1) -> dict[str, float]:
    """Return all samples once so many answers had the result."""
    name = f'adaptory_serve_shadow_answers_total{{bot="{BOT}",result="{result}",tenant="acme"}}'
    async with asyncio.timeout(10):
        while (samples := await scrape(stage)).get(name, 0) < number:
            pass
    return samples


async def test_production_answers_and_the_shadow_is_compared(stage: Stage, voices: dict[str, str]) -> None:
    """Nobody hears the other word; how alike the answers are is counted, and both requests are, by lane."""
    answer = await stage.chat.ChatUnary(question(BOT, max_output_tokens=4), metadata=ACME)
    samples = await compared(stage, "different")

    assert (answer.finish.version, set(answer.text.split())) == (FIRST, {voices[FIRST]})
    assert samples[f'adaptory_serve_shadow_similarity_count{{bot="{BOT}",tenant="acme"}}'] == 1
    for lane in ("production", "shadow"):
        labels = f'bot="{BOT}",bot_kind="FAQ",code="OK",lane="{lane}",tenant="acme"'
        assert samples[f"adaptory_serve_requests_total{{{labels}}}"] == 1


async def test_a_shadow_that_says_the_same_is_counted_so(stage: Stage, voices: dict[str, str]) -> None:
    """As one of the same weights does."""
    twin = f"{BOT}/versions/3"
    stage.add_version(twin, seed=1)
    stage.cast_shadow(twin, production=FIRST)
    await stage.followed()
    await stage.chat.ChatUnary(question(BOT, max_output_tokens=4), metadata=ACME)
    samples = await compared(stage, "same")

    assert samples[f'adaptory_serve_shadow_similarity_sum{{bot="{BOT}",tenant="acme"}}'] == 1


async def test_a_shadow_that_cannot_be_loaded_hurts_nobody(stage: Stage, voices: dict[str, str]) -> None:
    """Its failures are counted; callers get their answers, before and after."""
    broken = f"{BOT}/versions/3"
    stage.add_version(broken, digest="0" * 64)
    stage.cast_shadow(broken, production=FIRST)
    await stage.followed()
    for number in (1, 2):
        answer = await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=ACME)
        await compared(stage, "failed", number)

        assert answer.text.strip() == voices[FIRST]


async def test_an_answer_that_is_cancelled_casts_no_shadow(stage: Stage, voices: dict[str, str]) -> None:
    """There is nothing whole to compare with."""
    stage.engine.pause_after(1)
    stream = stage.chat.Chat(question(BOT, max_output_tokens=8), metadata=ACME)
    await stream.read()
    stream.cancel()
    stage.engine.go_on()
    await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=ACME)
    samples = await compared(stage, "different")

    assert samples[f'adaptory_serve_shadow_similarity_count{{bot="{BOT}",tenant="acme"}}'] == 1


async def test_a_version_that_is_named_casts_no_shadow(stage: Stage, voices: dict[str, str]) -> None:
    """Only what production answers does."""
    await stage.chat.ChatUnary(question(SECOND, max_output_tokens=1), metadata=ACME)
    await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=ACME)
    samples = await compared(stage, "different")

    assert samples[f'adaptory_serve_shadow_similarity_count{{bot="{BOT}",tenant="acme"}}'] == 1


async def test_a_code_bots_shadow_completes_the_same_code(stage: Stage) -> None:
    """Cut at the same place."""
    bot = "tenants/acme/bots/code"
    first, second = f"{bot}/versions/1", f"{bot}/versions/2"
    stage.add_bot(bot, key="adk_acme")
    for version in (first, second):
        stage.add_version(version, template_digest=stage.model.base.form_digest)
    stage.registry.put_bot(bot, base_model="tiny", production=first, kind=bot_pb2.BOT_KIND_CODE_COMPLETION)
    stage.registry.put_shadow(second)
    await stage.followed()
    request = serve_service_pb2.CompleteRequest(name=bot, prefix="def f():\n    ")
    request.options.max_output_tokens = 3

    answer = await stage.chat.CompleteUnary(request, metadata=ACME)
    name = f'adaptory_serve_shadow_answers_total{{bot="{bot}",result="different",tenant="acme"}}'
    async with asyncio.timeout(10):
        while not (await scrape(stage)).get(name):
            pass

    assert answer.finish.version == first
