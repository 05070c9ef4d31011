"""What requests used, through real stubs to a ledger: every one is counted once, however it ends and whatever is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from adaptory.core.names import VersionName
from adaptory.core.usage import UsageCounts, UsageKey
from tests.fakes.server import Stage, info_of, key_of, question, reason_of, retry_after_s
from tests.unit.serve.test_chat_service import ask, refusal
from tests.unit.serve.test_metrics import scrape
from tests.unit.serve.test_shadow_service import compared

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
_DAY_S = 24 * 3600


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server that reports all the time, with the tenant acme, which asks the bare base."""
    stage = Stage(tmp_path)
    stage.overrides.update(usage_keep_seconds=0.01, usage_report_seconds=0.01)
    async with stage:
        stage.add_bot(BOT, key="adk_acme")
        await stage.followed()
        yield stage


def turn(**options: Any) -> Any:
    """Return a question to the bare base."""
    return question(f"{BOT}/versions/0", **{"max_output_tokens": 4, **options})


def today() -> str:
    """Return the UTC day."""
    return datetime.now(UTC).date().isoformat()


def key(number: int = 0) -> UsageKey:
    """Return where a version of the bot is counted today."""
    return UsageKey(VersionName("acme", "faq", number), today())


async def measure_prompt(stage: Stage) -> int:
    """Return the tokens of the question, by asking it."""
    answer = await ask(stage, turn(max_output_tokens=1))
    return int(answer.finish.num_prompt_tokens)


async def drain(stream: Any) -> None:
    """Read to the end, or to the error that is there."""
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_requests_are_counted_by_how_they_end(stage: Stage) -> None:
    """Answered, left amid the answer, out of time, refused, failed after some tokens: exact counts, whatever came of each."""
    num_prompt = await measure_prompt(stage)
    await ask(stage, turn())
    stage.engine.pause_after(2)
    stream = stage.chat.Chat(turn(), metadata=ACME)
    for _ in range(2):
        await stream.read()
    stream.cancel()
    while stage.engine.num_unfinished:
        await stage.residency()
    stage.engine.go_on()
    stage.engine.pause_after(1)
    with pytest.raises(grpc.aio.AioRpcError):
        await stage.chat.ChatUnary(turn(), metadata=ACME, timeout=0.3)
    stage.engine.go_on()
    stage.registry.put_tenant("acme", "adk_acme", max_output_tokens=8)
    await stage.followed()
    await refusal(stage, turn(max_output_tokens=9))
    stage.engine.pause_after(3)
    stream = stage.chat.Chat(turn(), metadata=ACME)
    for _ in range(3):
        await stream.read()
    stage.engine.kill()
    with pytest.raises(grpc.aio.AioRpcError):
        await drain(stream)
    usage = await stage.registry.ledger.counted(6)

    assert usage == {
        key(): UsageCounts(
            num_requests=6,
            num_cancelled=2,
            num_failed=1,
            num_refused=1,
            num_prompt_tokens=5 * num_prompt,
            num_output_tokens=1 + 4 + 2 + 1 + 3,
        )
    }


async def test_a_request_is_counted_under_the_version_that_answered(stage: Stage) -> None:
    """Not under the one that could not be loaded; a version that nobody stood in for is charged no tokens."""
    stage.add_version(f"{BOT}/versions/1")
    stage.add_version(f"{BOT}/versions/2", digest="0" * 64)
    stage.promote(f"{BOT}/versions/2", previous=f"{BOT}/versions/1")
    await stage.followed()
    answer = await ask(stage, question(BOT, max_output_tokens=3))
    await refusal(stage, question(f"{BOT}/versions/2"))
    usage = await stage.registry.ledger.counted(2)

    tokens = {"num_prompt_tokens": answer.finish.num_prompt_tokens, "num_output_tokens": 3}
    assert usage == {key(1): UsageCounts(num_requests=1, **tokens), key(2): UsageCounts(num_requests=1, num_failed=1)}


async def test_a_shadow_is_not_counted(stage: Stage) -> None:
    """Its tenant did not ask for it: its tokens are not charged, and what it said is not used."""
    for number in (1, 2):
        stage.add_version(f"{BOT}/versions/{number}")
    stage.cast_shadow(f"{BOT}/versions/2", production=f"{BOT}/versions/1")
    await stage.followed()
    await ask(stage, question(BOT, max_output_tokens=3))
    await compared(stage, "different")
    await ask(stage, turn())
    usage = await stage.registry.ledger.counted(2)

    assert {key.version.number: counts.num_requests for key, counts in usage.items()} == {0: 1, 1: 1}


async def test_an_engine_that_dies_before_the_first_token_costs_nothing(stage: Stage) -> None:
    """The request failed, and its tenant has no part in it."""
    stage.engine.pause_after(0)
    asking = asyncio.create_task(refusal(stage, turn()))
    while not stage.engine.num_unfinished:
        await stage.residency()
    stage.engine.kill()
    await asking

    assert await stage.registry.ledger.counted(1) == {key(): UsageCounts(num_requests=1, num_failed=1)}


async def test_a_registry_that_is_away_costs_no_request_and_no_record(stage: Stage) -> None:
    """Nor does a restart meanwhile, nor answers that are lost: in the end everything is counted, and once."""
    ledger = stage.registry.ledger
    ledger.is_away = True
    for _ in range(2):
        num_prompt = await measure_prompt(stage)
        await ledger.asked(ledger.num_asked + 2)
    unreported = (await scrape(stage))["adaptory_serve_usage_unreported_requests"]
    await stage.stop()
    await stage.start()
    await stage.followed()
    await measure_prompt(stage)
    ledger.is_away, ledger.num_answers_to_lose = False, 3
    usage = await ledger.counted(3)
    while (await scrape(stage))["adaptory_serve_usage_unreported_requests"]:
        pass

    assert (unreported, ledger.num_answers_to_lose) == (2, 0)
    assert usage == {key(): UsageCounts(num_requests=3, num_prompt_tokens=3 * num_prompt, num_output_tokens=3)}
    assert ledger.usage == usage


async def test_requests_that_a_stop_cuts_are_counted(stage: Stage) -> None:
    """They are in the last report, with what was delivered, and failed."""
    await stage.stop()
    stage.overrides["drain_seconds"] = 0.05
    await stage.start()
    await stage.followed()
    stage.engine.pause_after(2)
    stream = stage.chat.Chat(turn(), metadata=ACME)
    for _ in range(2):
        await stream.read()
    await stage.stop_server()
    with suppress(grpc.aio.AioRpcError):
        await stream.read()
    (counts,) = stage.registry.ledger.usage.values()

    assert (counts.num_requests, counts.num_failed, counts.num_output_tokens) == (1, 1, 2)


async def test_a_server_whose_state_was_copied_counts_under_another_name(stage: Stage) -> None:
    """Its numbers were used by its twin, with other records: what it counted is reported all the same, once."""
    ledger = stage.registry.ledger
    await measure_prompt(stage)
    await ledger.counted(1)
    (server, sequence), twin = next(iter(ledger.reports)), {key(7): UsageCounts(num_requests=5)}
    for number in range(1, 4):
        ledger.reports[server, sequence + number] = twin
    await measure_prompt(stage)
    usage = await ledger.counted(1 + 3 * 5 + 1)

    assert usage[key()].num_requests == 2
    assert len({name for name, _ in ledger.reports}) == 2


async def test_a_report_that_the_registry_never_takes_holds_nothing_up(stage: Stage) -> None:
    """It is kept for the operator, and what comes after it is reported."""
    ledger = stage.registry.ledger
    ledger.num_reports_to_refuse = 1
    await measure_prompt(stage)
    await ledger.asked()
    num_prompt = await measure_prompt(stage)
    usage = await ledger.counted(1)
    file = stage.folder / "serve" / "usage.spool.refused"
    refused = file.read_text().splitlines()

    assert usage == {key(): UsageCounts(num_requests=1, num_prompt_tokens=num_prompt, num_output_tokens=1)}
    assert len(refused) == 1
    assert str(key().version) in refused[0]
    assert file.stat().st_mode & 0o077 == 0, "it names tenants"


async def test_a_day_is_limited_by_what_all_servers_used(stage: Stage) -> None:
    """Others' use is heard of with the next report, and it ends at midnight."""
    ledger = stage.registry.ledger
    ledger.day, ledger.totals = today(), {"acme": 10_000}
    stage.registry.put_tenant("acme", "adk_acme", tokens_per_day=10_000)
    await stage.followed()
    await ledger.asked(ledger.num_asked + 2)
    refused = await refusal(stage, turn())
    ledger.totals = {"acme": 9_999}
    await ledger.asked(ledger.num_asked + 2)
    await ask(stage, turn())

    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOKENS_PER_DAY")
    assert dict(info_of(refused).metadata)["num_tokens"] == "10000"
    assert 0 < retry_after_s(refused) <= _DAY_S


async def test_a_day_is_limited_while_the_registry_is_away(stage: Stage) -> None:
    """By what this server used itself, before a restart too; the answer that used it up is not cut."""
    stage.registry.ledger.is_away = True
    stage.registry.put_tenant("acme", "adk_acme", tokens_per_day=50)
    await stage.followed()
    answer = await ask(stage, turn(max_output_tokens=20))
    refused = await refusal(stage, turn())
    await stage.stop()
    await stage.start()
    await stage.followed()
    again = await refusal(stage, turn())

    num_tokens = answer.finish.num_prompt_tokens + answer.finish.num_output_tokens
    assert num_tokens > 50
    assert [info_of(error).metadata["num_tokens"] for error in (refused, again)] == [str(num_tokens)] * 2
