"""Limits of tenants through real stubs: what is refused, with which numbers, and what is answered all the same."""

from typing import Any

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2
from serve_svc.registry.snapshot import SnapshotFile
from serve_svc.usage.quota import Quota
from tests.fakes.server import Stage, fields_of, info_of, key_of, question, reason_of, retry_after_s
from tests.unit.serve.test_chat_service import ask, refusal
from tests.unit.serve.test_complete_service import TOKENS_OF_FORM, complete
from tests.unit.serve.test_complete_service import request as completion

ACME = key_of("adk_acme")
GLOBEX = key_of("adk_globex")
BOT = "tenants/acme/bots/faq"


@pytest.fixture
async def bare(stage: Stage) -> Stage:
    """A server whose tenants acme and globex ask the bare base, which says `base` up to its limit of tokens."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_bot("tenants/globex/bots/faq", key="adk_globex")
    await stage.followed()
    return stage


async def limit(stage: Stage, **quota: int) -> None:
    """Let acme use no more than this."""
    stage.registry.put_tenant("acme", "adk_acme", **quota)
    await stage.followed()


def turn(bot: str = BOT, **options: Any) -> Any:
    """Return a question to the bare base."""
    return question(f"{bot}/versions/0", **{"max_output_tokens": 4, **options})


async def test_requests_of_a_minute_are_limited_for_one_tenant_alone(bare: Stage) -> None:
    """The third of two is refused with the numbers and the time to come back; a higher limit counts from the next request on."""
    await limit(bare, requests_per_minute=2)
    for _ in range(2):
        await ask(bare, turn())
    refused = await refusal(bare, turn())
    await ask(bare, turn("tenants/globex/bots/faq"), key=GLOBEX)
    await limit(bare, requests_per_minute=60)
    await ask(bare, turn())

    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUESTS_PER_MINUTE")
    assert info_of(refused).metadata["requests_per_minute"] == "2"
    assert 0 < retry_after_s(refused) <= 30


async def test_an_answer_goes_on_beyond_the_tokens_of_a_minute_and_the_next_waits_for_it(bare: Stage) -> None:
    """It is not cut; what it took too much is told, and paid off before another begins. Without the limit nothing is owed."""
    await limit(bare, tokens_per_minute=6)
    answer = await ask(bare, turn(max_output_tokens=20))
    num_over = answer.finish.num_prompt_tokens + 20 - 6
    refused = await refusal(bare, turn())
    await limit(bare)
    await ask(bare, turn())

    assert answer.finish.num_output_tokens == 20
    assert reason_of(refused) == "TOKENS_PER_MINUTE"
    assert num_over - 5 <= int(info_of(refused).metadata["num_tokens_over"]) <= num_over
    assert 10 * (num_over - 5) < retry_after_s(refused) <= 10 * (num_over + 1)


async def test_a_request_that_never_came_to_the_engine_costs_no_tokens(bare: Stage) -> None:
    """Whatever ended it: here an adapter that cannot be loaded, many times over the limit."""
    bare.add_version(f"{BOT}/versions/1", digest="0" * 64)
    await limit(bare, tokens_per_minute=6)
    for _ in range(5):
        refused = await refusal(bare, question(f"{BOT}/versions/1"))
        assert reason_of(refused) != "TOKENS_PER_MINUTE"

    await ask(bare, turn())


async def test_a_prompt_longer_than_a_tenants_may_be_is_refused(bare: Stage) -> None:
    """With both numbers, under the field that is too long; nothing is asked of the engine."""
    await limit(bare, max_prompt_tokens=100)
    refused = await refusal(bare, question(f"{BOT}/versions/0", "x" * 100))
    num_asked = len(bare.engine.requests)
    await ask(bare, turn())

    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, "PROMPT_TOO_LONG")
    assert (fields_of(refused), num_asked) == (["messages"], 0)
    assert int(info_of(refused).metadata["num_prompt_tokens"]) > 100


async def test_an_answer_is_no_longer_than_a_tenants_may_be(bare: Stage) -> None:
    """Who asks for more is refused; who leaves it to the bot gets the limit."""
    await limit(bare, max_output_tokens=8)
    refused = await refusal(bare, turn(max_output_tokens=9))
    answer = await ask(bare, question(f"{BOT}/versions/0"))

    assert (reason_of(refused), fields_of(refused)) == ("OUTPUT_TOO_LONG", ["options.max_output_tokens"])
    assert answer.finish.num_output_tokens == 8


async def test_code_around_a_cursor_is_trimmed_to_a_tenants_longest_prompt(bare: Stage) -> None:
    """A completion is asked at every keystroke, with all that is there: it is answered from less rather than refused."""
    code = "tenants/acme/bots/code"
    bare.registry.put_bot(code, base_model="tiny", kind=bot_pb2.BOT_KIND_CODE_COMPLETION)
    most = TOKENS_OF_FORM + 40
    await limit(bare, max_prompt_tokens=most)
    answer = await complete(bare, completion("x = 1\n" * 30, name=f"{code}/versions/0", max_output_tokens=1))

    assert answer.context.num_trimmed_prefix_chars > 0
    assert TOKENS_OF_FORM < answer.finish.num_prompt_tokens <= most


async def test_limits_are_in_the_snapshot(bare: Stage) -> None:
    """A server that starts while the registry is away goes by what it heard last."""
    await limit(bare, requests_per_minute=2, tokens_per_day=2**40, max_output_tokens=8)
    file = SnapshotFile(bare.folder / "serve" / "routing.snapshot")
    while (table := file.load()).generation < bare.registry.generation:
        await bare.residency()
    await bare.stop()
    await bare.registry.close()
    await bare.start()
    refused = await refusal(bare, turn(max_output_tokens=9))

    assert table.tenants["tenants/acme"].quota == Quota(
        requests_per_minute=2, tokens_per_day=2**40, max_output_tokens=8
    )
    assert reason_of(refused) == "OUTPUT_TOO_LONG"
