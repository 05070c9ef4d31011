"""OpenAI's interface when a client, the engine or the server goes away amid an answer; and its port."""

import asyncio
import json
import ssl
from pathlib import Path

import httpx
import openai
import pytest
import trustme
from pydantic import ValidationError
from starlette.responses import PlainTextResponse

from adaptory.cli.checkup import Verdict, check_openai
from adaptory.core.errors import InvalidRequest
from serve_svc.openai import protocol
from serve_svc.openai.server import HttpServer
from serve_svc.settings import ServeSettings
from tests.fakes.openai_caller import BOT, CODE, ask, open_client, open_raw
from tests.fakes.server import Stage
from tests.unit.serve.test_metrics import scrape


async def restart(stage: Stage, **overrides: object) -> None:
    """Start the server again with other settings; it is done once nothing is loaded any more, which would end a pause."""
    stage.overrides.update(overrides)
    await stage.stop()
    await stage.start()
    await stage.followed()
    await stage.loaded(f"{BOT}/versions/1", f"{CODE}/versions/1")


@pytest.mark.parametrize("streams", [True, False])
async def test_a_caller_who_leaves_frees_the_engine(openai_stage: Stage, *, streams: bool) -> None:
    """Whether it waits for a piece or for the whole, its connection's end aborts the engine's work and returns the lease."""
    openai_stage.engine.pause_after(2)
    body = {"model": "faq", "messages": ask(), "stream": streams, "max_tokens": 8}
    async with open_raw(openai_stage) as caller:
        await caller.send(json.dumps(body).encode())
        while not openai_stage.engine.num_unfinished:
            await openai_stage.residency()

    await openai_stage.idle()

    assert (openai_stage.engine.num_aborted, openai_stage.engine.num_unfinished) == (1, 0)


async def test_a_client_that_breaks_off_its_stream_frees_the_engine(openai_stage: Stage) -> None:
    """A stream of OpenAI's client that is closed early ends here, too, and counts as cancelled."""
    openai_stage.engine.pause_after(1)
    async with open_client(openai_stage) as client:
        stream = await client.chat.completions.create(model="faq", messages=ask(), stream=True)
        await stream.close()

        await openai_stage.idle()

    samples = await scrape(openai_stage)
    assert openai_stage.engine.num_aborted == 1
    route = 'http_route="POST /v1/chat/completions"'
    assert samples[f'http_server_handled_total{{http_code="Cancelled",{route}}}'] == 1


async def test_requests_are_counted_as_over_grpc(openai_stage: Stage) -> None:
    """By route and code beside gRPC's own, and by tenant, bot and lane together with them."""
    async with open_client(openai_stage) as client:
        await client.chat.completions.create(model="faq", messages=ask(), max_tokens=3)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="none", messages=ask())

    samples = await scrape(openai_stage)
    route = 'http_route="POST /v1/chat/completions"'
    assert samples[f'http_server_handled_total{{http_code="OK",{route}}}'] == 1
    assert samples[f'http_server_handled_total{{http_code="NotFound",{route}}}'] == 1
    assert samples[f"http_server_msg_sent_total{{{route}}}"] == 1
    labels = f'bot="{BOT}",bot_kind="FAQ",code="OK",lane="production",tenant="acme"'
    assert samples[f"adaptory_serve_requests_total{{{labels}}}"] == 1
    assert samples['adaptory_serve_tokens_total{direction="out",tenant="acme"}'] == 3


async def test_a_dying_engine_ends_the_stream_with_an_error(openai_stage: Stage) -> None:
    """What came has come; then an event says why there is no more, and no end is sent that would make it look whole."""
    openai_stage.engine.pause_after(2)
    async with open_client(openai_stage) as client:
        stream = await client.chat.completions.create(model="faq", messages=ask(), max_tokens=8, stream=True)
        chunks = aiter(stream)
        pieces = [await anext(chunks) for _ in range(3)]
        openai_stage.engine.kill()
        with pytest.raises(openai.APIError) as caught:
            await anext(chunks)

    assert (caught.value.code, caught.value.type) == ("ENGINE_RESTARTING", "server_error")
    assert "after 2 tokens" in caught.value.message
    assert [chunk.choices[0].finish_reason for chunk in pieces] == [None] * 3


async def test_while_the_engine_is_rebuilt_callers_are_told_to_retry(openai_stage: Stage) -> None:
    """503 with a time, for a request and for a balancer's question; afterwards both are well. The doctor finds it so, too."""
    openai_stage.hold_builds()
    openai_stage.engine.kill()
    await openai_stage.served("NOT_SERVING")
    async with open_client(openai_stage) as client, httpx.AsyncClient() as balancer:
        health = f"http://{openai_stage.endpoint.openai}/health"
        down = await balancer.get(health)
        found_down = await asyncio.to_thread(check_openai, openai_stage.endpoint.openai)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="faq", messages=ask())
        openai_stage.release_builds()
        await openai_stage.served()
        up = await balancer.get(health)
        found_up = await asyncio.to_thread(check_openai, openai_stage.endpoint.openai)
        answer = await client.chat.completions.create(model="faq", messages=ask(), max_tokens=1)

    assert (caught.value.status_code, caught.value.code) == (503, "ENGINE_RESTARTING")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert (down.status_code, down.json()["error"]["code"], down.headers["retry-after"]) == (503, "NOT_SERVING", "1")
    assert (up.status_code, up.json()) == (200, {"status": "SERVING"})
    assert answer.choices[0].message.content
    assert (found_down.verdict, found_up.verdict) == (Verdict.NOTE, Verdict.GOOD)


async def test_a_server_that_stops_lets_a_stream_end(openai_stage: Stage) -> None:
    """SIGTERM's path: what runs has its time, and is whole."""
    openai_stage.engine.pause_after(1)
    async with open_client(openai_stage) as client:
        stream = await client.chat.completions.create(model="faq", messages=ask(), max_tokens=8, stream=True)
        openai_stage.engine.go_on()

        await openai_stage.stop_server()

        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "length"


async def test_an_answer_that_takes_longer_than_the_drain_is_told_so(openai_stage: Stage) -> None:
    """A stream ends with an event that says so, a whole answer with 503; new requests are refused, and the engine is free."""
    await restart(openai_stage, drain_seconds=0.2)
    openai_stage.engine.pause_after(2)
    async with open_client(openai_stage) as client:
        stream = await client.chat.completions.create(model="faq", messages=ask(), max_tokens=8, stream=True)
        waiting = asyncio.create_task(client.completions.create(model="code", prompt="x"))
        async with asyncio.timeout(10):
            while openai_stage.engine.num_unfinished < 2:
                await openai_stage.residency()

        stopping = asyncio.create_task(openai_stage.stop_server())
        with pytest.raises(openai.APIError) as cut:
            _ = [chunk async for chunk in stream]
        with pytest.raises(openai.InternalServerError) as refused:
            await waiting
        await stopping

    assert cut.value.code == "SHUTDOWN"
    assert (refused.value.status_code, refused.value.code) == (503, "SHUTDOWN")
    assert openai_stage.engine.num_unfinished == 0


async def test_a_client_that_does_not_read_stops_the_answer_and_is_cut(openai_stage: Stage) -> None:
    """What is held for it is bounded: the engine's words wait, and after `max_write_seconds` the connection ends."""
    await restart(openai_stage, max_write_seconds=0.2)
    num_pieces = 200
    openai_stage.engine.speech = ("x" * 100_000,) * num_pieces
    body = {"model": "code", "prompt": "x", "stream": True, "max_tokens": num_pieces}
    async with open_raw(openai_stage, limit=1 << 10) as caller:
        await caller.send(json.dumps(body).encode(), path="/v1/completions")
        while not openai_stage.engine.num_aborted:
            await openai_stage.residency()

    await openai_stage.idle()
    tokens = (await scrape(openai_stage))['adaptory_serve_tokens_total{direction="out",tenant="acme"}']
    assert 0 < tokens < num_pieces


async def test_half_a_head_is_not_waited_for(openai_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a connection and does not ask loses it, also behind a request that was answered."""
    monkeypatch.setattr(protocol, "_MAX_HEAD_S", 0.1)
    async with open_raw(openai_stage) as silent, open_raw(openai_stage) as slow:
        await slow.send(json.dumps({"model": "faq", "messages": ask(), "max_tokens": 1}).encode())
        status, _ = await slow.read()
        slow.writer.write(b"POST /v1/chat")

        left = [await caller.reader.read() for caller in (silent, slow)]

    assert (status, left) == (200, [b"", b""])


async def test_it_is_served_under_grpcs_certificate(tmp_path: Path) -> None:
    """A server with a certificate speaks HTTPS there, and nothing in clear."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pair.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pair = {"tls_certificate": tmp_path / "pair.pem", "tls_key": tmp_path / "pair.pem"}
    server = HttpServer(PlainTextResponse("well"), ServeSettings(openai_address="127.0.0.1:0", **pair))
    address = await server.open()
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=tmp_path / "ca.pem")) as client:
        answer = await client.get(f"https://{address}/")
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://{address}/")
    await server.stop()

    assert answer.text == "well"


async def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The error names the setting."""
    (tmp_path / "pair.pem").write_text("no certificate")
    pair = {"tls_certificate": tmp_path / "pair.pem", "tls_key": tmp_path / "pair.pem"}

    with pytest.raises(InvalidRequest, match="tls_certificate"):
        await HttpServer(PlainTextResponse("well"), ServeSettings(openai_address="127.0.0.1:0", **pair)).open()


def test_keys_never_cross_a_network_in_clear() -> None:
    """Another machine may reach it under a certificate only."""
    with pytest.raises(ValidationError, match=r"openai_address .* can be reached"):
        ServeSettings(openai_address="0.0.0.0:50073")


async def test_a_port_that_is_taken_is_told(openai_stage: Stage, tmp_path: Path) -> None:
    """The second server names the setting, and does not start."""
    other = Stage(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "server.key").write_text("x")
    other.registry = openai_stage.registry
    other.overrides["openai_address"] = openai_stage.endpoint.openai

    with pytest.raises(InvalidRequest, match=r"openai_address: .* cannot be bound"):
        await other.start()


async def test_no_address_serves_nothing(openai_stage: Stage) -> None:
    """An empty setting opens no port, and endpoint.json names none."""
    await restart(openai_stage, openai_address="")

    assert openai_stage.endpoint.addresses().keys() == {"grpc", "metrics"}
    written = json.loads((openai_stage.folder / "serve" / "endpoint.json").read_text())
    assert written == openai_stage.endpoint.addresses()
