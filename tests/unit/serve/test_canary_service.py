"""A canary through real stubs: whom it answers, who answers when it cannot, and what operators see of it."""

import pytest

from adaptory.serve.v1 import generation_pb2, serve_service_pb2
from tests.fakes.server import Stage, fields_of, key_of, question
from tests.unit.serve.test_chat_service import refusal
from tests.unit.serve.test_metrics import scrape

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
FIRST, SECOND = f"{BOT}/versions/1", f"{BOT}/versions/2"
NUM_CONVERSATIONS = 40


@pytest.fixture
async def voices(stage: Stage) -> dict[str, str]:
    """The words of version 1, in production, and of version 2."""
    stage.add_bot(BOT, key="adk_acme")
    voices = {version: stage.add_version(version) for version in (FIRST, SECOND)}
    stage.promote(FIRST)
    await stage.followed()
    return voices


def turn(text: str, key: str = "") -> serve_service_pb2.ChatRequest:
    """Return a conversation of one short turn."""
    request = question(BOT, text, max_output_tokens=1)
    request.conversation_key = key
    return request


async def ask(stage: Stage, request: serve_service_pb2.ChatRequest) -> serve_service_pb2.ChatUnaryResponse:
    """Return the whole answer."""
    return await stage.chat.ChatUnary(request, metadata=ACME)


async def test_every_conversation_keeps_its_version(stage: Stage, voices: dict[str, str]) -> None:
    """Half of the keys are answered by each, whatever is said; without a key the first message says who answers."""
    stage.try_canary(SECOND, 50, production=FIRST)
    await stage.followed()
    answered: dict[str, set[str]] = {}
    for text in ("Hello", "Goodbye"):
        for number in range(NUM_CONVERSATIONS):
            answer = await ask(stage, turn(text, f"key {number}"))
            assert answer.text.strip() == voices[answer.finish.version]
            answered.setdefault(f"key {number}", set()).add(answer.finish.version)
    unkeyed = [(await ask(stage, turn("The same question"))).finish.version for _ in range(5)]

    assert all(len(versions) == 1 for versions in answered.values())
    assert set.union(*answered.values()) == {FIRST, SECOND}
    assert len(set(unkeyed)) == 1


async def test_a_canary_is_loaded_before_it_is_asked(stage: Stage, voices: dict[str, str]) -> None:
    """As a promoted version is."""
    stage.try_canary(SECOND, 1, production=FIRST)
    await stage.followed()

    await stage.loaded(SECOND)

    assert SECOND in [adapter.version for adapter in (await stage.residency()).adapters]


async def test_production_stands_in_for_a_canary_that_cannot_be_loaded(stage: Stage, voices: dict[str, str]) -> None:
    """Whoever falls to it gets an answer all the same."""
    broken = f"{BOT}/versions/3"
    stage.add_version(broken, digest="0" * 64)
    stage.try_canary(broken, 100, production=FIRST)
    await stage.followed()
    answer = await ask(stage, turn("Hello"))

    assert (answer.text.strip(), answer.finish.version) == (voices[FIRST], FIRST)


async def test_operators_see_a_canarys_requests_beside_productions(stage: Stage, voices: dict[str, str]) -> None:
    """Under one bot, by the lane they came."""
    stage.try_canary(SECOND, 100, production=FIRST)
    await stage.followed()
    await ask(stage, turn("Hello"))
    stage.promote(FIRST)
    await stage.followed()
    await ask(stage, turn("Hello"))
    samples = await scrape(stage)

    for lane in ("canary", "production"):
        labels = f'bot="{BOT}",bot_kind="FAQ",code="OK",lane="{lane}",tenant="acme"'
        assert samples[f"adaptory_serve_requests_total{{{labels}}}"] == 1


async def test_a_key_that_is_too_long_is_refused(stage: Stage, voices: dict[str, str]) -> None:
    """With everything else that is wrong with the request."""
    request = turn("Hello", "k" * 257)
    request.options.CopyFrom(generation_pb2.GenerationOptions(max_output_tokens=0))

    assert set(fields_of(await refusal(stage, request))) == {"conversation_key", "options.max_output_tokens"}
