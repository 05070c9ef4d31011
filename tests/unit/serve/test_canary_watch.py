"""A canary that is worse than production, through real stubs: it ends at once here, and for all servers by the registry."""

from contextlib import suppress

import grpc
import pytest

from tests.fakes.server import Stage, key_of, question

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
FIRST, SECOND = f"{BOT}/versions/1", f"{BOT}/versions/2"
MIN_REQUESTS = 4


@pytest.fixture
async def stage_with_canary(stage: Stage) -> Stage:
    """A server that judges early; version 1 is in production, and version 2 answers every second conversation."""
    stage.overrides["canary_min_requests"] = MIN_REQUESTS
    await stage.stop()
    await stage.start()
    stage.add_bot(BOT, key="adk_acme")
    for version in (FIRST, SECOND):
        stage.add_version(version)
    stage.try_canary(SECOND, 50, production=FIRST)
    await stage.followed()
    await stage.loaded(FIRST)
    await stage.loaded(SECOND)
    return stage


async def ask_many(stage: Stage, number: int = 40) -> list[str]:
    """Return the versions that answered so many conversations."""
    versions = []
    for place in range(number):
        request = question(BOT, max_output_tokens=1)
        request.conversation_key = f"key {place}"
        versions.append((await stage.chat.ChatUnary(request, metadata=ACME)).finish.version)
    return versions


async def try_broken_canary(stage: Stage, percent: int) -> None:
    """Have a server that judges early try version 2, whose files are not those that were registered."""
    stage.overrides["canary_min_requests"] = MIN_REQUESTS
    await stage.stop()
    await stage.start()
    stage.add_bot(BOT, key="adk_acme")
    stage.add_version(FIRST)
    stage.add_version(SECOND, digest="0" * 64)
    stage.try_canary(SECOND, percent, production=FIRST)
    await stage.followed()


async def test_a_canary_as_good_as_production_goes_on(stage_with_canary: Stage) -> None:
    """Forty conversations later both still answer, and the registry was told nothing."""
    answered = await ask_many(stage_with_canary) + await ask_many(stage_with_canary)

    assert set(answered) == {FIRST, SECOND}
    assert stage_with_canary.registry.ended_canaries == []


async def test_a_canary_that_cannot_be_loaded_ends(stage: Stage) -> None:
    """Production answers for it; soon nobody is sent to it, and the registry has the numbers."""
    await try_broken_canary(stage, 50)

    assert set(await ask_many(stage)) == {FIRST}
    ((version, reason),) = await stage.registry.canary_ended()
    assert version == SECOND
    assert f"Of its last requests {MIN_REQUESTS} of {MIN_REQUESTS} failed, of production's 0 of" in reason


async def test_a_canary_for_everybody_ends_without_production_to_compare(stage: Stage) -> None:
    """Nobody is in the other lane, and nobody gets an answer of the canary."""
    await try_broken_canary(stage, 100)

    assert set(await ask_many(stage, MIN_REQUESTS)) == {FIRST}
    assert [version for version, _ in await stage.registry.canary_ended()] == [SECOND]


async def test_a_canary_that_turns_bad_after_many_good_answers_ends(stage_with_canary: Stage) -> None:
    """What was long ago does not outweigh what is now: callers whose deadline passes are failures, too."""
    await ask_many(stage_with_canary, 200)
    stage_with_canary.engine.slow_down(SECOND, seconds=30)
    for place in range(200):
        request = question(BOT, max_output_tokens=1)
        request.conversation_key = f"key {place}"
        with suppress(grpc.aio.AioRpcError):
            await stage_with_canary.chat.ChatUnary(request, metadata=ACME, timeout=0.05)
        if stage_with_canary.registry.ended_canaries:
            break
    ((version, reason),) = await stage_with_canary.registry.canary_ended()

    assert (version, "failed, of production's 0 of" in reason) == (SECOND, True)


async def test_a_slow_canary_ends(stage_with_canary: Stage) -> None:
    """Its first tokens come late, and production's do not."""
    stage_with_canary.engine.slow_down(SECOND, seconds=0.3)
    answered = await ask_many(stage_with_canary)

    assert answered.count(SECOND) >= MIN_REQUESTS
    assert answered[-5:] == [FIRST] * 5
    ((version, reason),) = await stage_with_canary.registry.canary_ended()
    assert version == SECOND
    assert "median time to the first token" in reason


async def test_a_canary_that_computes_nan_ends_at_once(stage: Stage) -> None:
    """One corrupted answer is enough; the engine restarts, and nobody falls to the canary any more."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_version(FIRST)
    stage.add_version(SECOND)
    stage.try_canary(SECOND, 100, production=FIRST)
    await stage.followed()
    stage.engine.corrupt(SECOND)
    request = question(BOT, max_output_tokens=4)
    with pytest.raises(grpc.aio.AioRpcError, match="restarted"):
        await stage.chat.ChatUnary(request, metadata=ACME)
    ((version, reason),) = await stage.registry.canary_ended()
    await stage.served()

    assert (version, "NaN" in reason) == (SECOND, True)
    assert (await stage.chat.ChatUnary(request, metadata=ACME)).finish.version == FIRST


async def test_a_canary_that_is_set_again_is_tried_anew(stage: Stage) -> None:
    """What ended it before does not count any more."""
    await try_broken_canary(stage, 100)
    stage.promote(FIRST)
    await stage.followed()
    stage.add_version(SECOND)
    stage.try_canary(SECOND, 100, production=FIRST)
    await stage.followed()

    assert set(await ask_many(stage, 3)) <= {FIRST, SECOND}
    assert stage.registry.ended_canaries == []
