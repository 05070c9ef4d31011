"""What a scrape shows."""

import asyncio
import urllib.request

import pytest

from adaptory.registry.v1 import bot_pb2
from adaptory.serve.v1 import serve_service_pb2
from tests.fakes.server import Stage, key_of, question

BOT = "tenants/acme/bots/faq"


async def scrape(stage: Stage) -> dict[str, float]:
    """Return every sample of the metrics port by its name and labels."""
    url = f"http://{stage.endpoint.metrics}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


@pytest.fixture
async def bot(stage: Stage) -> str:
    """A bot whose version 1 answers."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_version(f"{BOT}/versions/1")
    stage.promote(f"{BOT}/versions/1")
    await stage.followed()
    await stage.loaded(f"{BOT}/versions/1")
    return BOT


async def test_a_request_is_counted_under_tenant_bot_and_kind(stage: Stage, bot: str) -> None:
    """One answer of three tokens, as an operator sees it."""
    await stage.chat.ChatUnary(question(BOT, max_output_tokens=3), metadata=key_of("adk_acme"))

    samples = await scrape(stage)

    begin, end = f'bot="{BOT}",bot_kind="FAQ"', 'lane="production",tenant="acme"'
    assert samples[f'adaptory_serve_requests_total{{{begin},code="OK",{end}}}'] == 1
    assert samples[f"adaptory_serve_time_to_first_token_seconds_count{{{begin},{end}}}"] == 1
    assert samples['adaptory_serve_tokens_total{direction="out",tenant="acme"}'] == 3


async def test_adapters_and_engines_are_counted(stage: Stage, bot: str) -> None:
    """One load, one resident adapter, one engine; the registry is followed."""
    samples = await scrape(stage)

    assert samples['adaptory_serve_adapter_loads_total{result="loaded"}'] == 1
    assert samples["adaptory_serve_resident_adapters"] == 1
    assert samples["adaptory_serve_engine_starts_total"] == 1
    assert samples["adaptory_serve_registry_following"] == 1


async def test_a_version_that_cannot_be_loaded_is_counted(stage: Stage, bot: str) -> None:
    """The failed load and the answer of the former version both show."""
    stage.add_version(f"{BOT}/versions/2", digest="0" * 64)
    stage.promote(f"{BOT}/versions/2", previous=f"{BOT}/versions/1")
    await stage.followed()
    await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=key_of("adk_acme"))

    samples = await scrape(stage)

    assert samples['adaptory_serve_adapter_loads_total{result="CORRUPTED"}'] == 1
    assert samples["adaptory_serve_former_version_answers_total"] == 1
    assert samples['adaptory_serve_quarantined_total{reason="CORRUPTED"}'] == 1
    assert samples['adaptory_serve_adapters{state="QUARANTINED"}'] == 1
    assert samples['adaptory_serve_adapters{state="LOADED"}'] == 1


async def test_tenants_beyond_the_cap_are_counted_as_other(stage: Stage, bot: str) -> None:
    """The number of series is bounded however many tenants come."""
    stage.overrides["max_tenant_labels"] = 1
    await stage.stop()
    await stage.start()
    stage.add_bot("tenants/globex/bots/faq", key="adk_globex")
    await stage.followed()
    for tenant in ("acme", "globex"):
        name = f"tenants/{tenant}/bots/faq/versions/0"
        await stage.chat.ChatUnary(question(name, max_output_tokens=1), metadata=key_of(f"adk_{tenant}"))

    samples = await scrape(stage)

    assert samples['adaptory_serve_tokens_total{direction="out",tenant="other"}'] == 1
    assert not [name for name in samples if "globex" in name]


async def test_an_engines_death_empties_it(stage: Stage, bot: str) -> None:
    """Resident adapters are those of the living engine, which got them back."""
    stage.engine.kill()
    await stage.served("NOT_SERVING")
    await stage.served()
    await stage.loaded(f"{BOT}/versions/1")

    samples = await scrape(stage)

    assert samples["adaptory_serve_engine_starts_total"] == 2
    assert samples["adaptory_serve_resident_adapters"] == 1


async def test_a_completion_that_ends_before_the_engine_is_well(stage: Stage, bot: str) -> None:
    """A line that was long enough is an answer, not a caller who left, though the engine was stopped for it."""
    code = "tenants/acme/bots/code"
    stage.registry.put_bot(code, base_model="tiny", kind=bot_pb2.BOT_KIND_CODE_COMPLETION)
    await stage.followed()
    stage.engine.speech = ("a\n", "b\n", "c\n")

    request = serve_service_pb2.CompleteRequest(name=f"{code}/versions/0", prefix="x")
    await stage.chat.CompleteUnary(request, metadata=key_of("adk_acme"))

    samples = await scrape(stage)
    labels = f'bot="{code}",bot_kind="CODE_COMPLETION",code="OK",lane="named",tenant="acme"'
    assert samples[f"adaptory_serve_requests_total{{{labels}}}"] == 1
    assert not any('code="CANCELLED"' in name for name in samples)
