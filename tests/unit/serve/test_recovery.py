"""An engine that dies, and what callers and operators see of it."""

import grpc
import pytest

from adaptory.core.errors import InvalidRequest
from adaptory.serve.v1.generation_pb2 import Finish
from tests.fakes.server import Stage, info_of, key_of, question, reason_of, retry_after_s

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"


@pytest.fixture
async def voice(stage: Stage) -> str:
    """The word of the version that answers and is in the engine."""
    stage.add_bot(BOT, key="adk_acme")
    voice = stage.add_version(f"{BOT}/versions/1")
    stage.promote(f"{BOT}/versions/1")
    await stage.followed()
    await stage.loaded(f"{BOT}/versions/1")
    return voice


async def test_a_stream_on_a_dead_engine_says_how_far_it_came(stage: Stage, voice: str) -> None:
    """Its last message says why and how far; then it is UNAVAILABLE with when to ask again."""
    stage.engine.pause_after(2)
    stream = aiter(stage.chat.Chat(question(BOT, max_output_tokens=8), metadata=ACME))
    await anext(stream)
    await anext(stream)
    stage.engine.kill()
    last = await anext(stream)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(stream)

    assert (last.finish.reason, last.finish.num_output_tokens) == (Finish.REASON_ENGINE_RESTARTED, 2)
    assert last.finish.version == f"{BOT}/versions/1"
    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_RESTARTING")
    assert info_of(caught.value).metadata["num_output_tokens"] == "2"
    assert retry_after_s(caught.value) > 0


async def test_the_next_request_is_answered_by_the_next_engine(stage: Stage, voice: str) -> None:
    """Adapters come back by themselves, and the same version answers as before."""
    stage.engine.kill()
    await stage.served("NOT_SERVING")
    await stage.served()

    answer = await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=ACME)

    assert answer.text.strip() == voice
    assert (await stage.residency()).num_engine_starts == 2


async def test_requests_are_told_to_retry_while_the_engine_is_rebuilt(stage: Stage, voice: str) -> None:
    """While no engine is there a request is UNAVAILABLE at once, with a time to come back."""
    stage.hold_builds()
    stage.engine.kill()
    await stage.served("NOT_SERVING")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.chat.ChatUnary(question(BOT), metadata=ACME)

    assert reason_of(caught.value) == "ENGINE_RESTARTING"
    assert retry_after_s(caught.value) > 0
    stage.release_builds()
    await stage.served()


async def test_a_second_server_on_the_same_state_is_refused(stage: Stage) -> None:
    """Two servers would take each other's adapters away: the second one says so and does not start."""
    other = Stage(stage.folder)
    other.registry = stage.registry

    with pytest.raises(InvalidRequest, match="in use by another process"):
        await other.start()
