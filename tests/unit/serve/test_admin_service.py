"""ServeAdminService through real stubs."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2

from adaptory.serve.v1 import serve_admin_service_pb2
from adaptory.serve.v1.generation_pb2 import Finish
from tests.fakes.server import SERVE_SERVICE, Stage, info_of, key_of, question, reason_of

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
V1 = f"{BOT}/versions/1"


@pytest.fixture
async def bot(stage: Stage) -> str:
    """A bot with one version that nobody promoted or asked for yet."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_version(V1)
    await stage.followed()
    return BOT


async def test_a_warmed_version_is_in_the_engine_before_its_first_request(stage: Stage, bot: str) -> None:
    """Warming says how long it took, and 0 for what is there already."""
    request = serve_admin_service_pb2.WarmVersionRequest(name=V1)

    first = await stage.admin.WarmVersion(request, metadata=stage.admin_key)
    second = await stage.admin.WarmVersion(request, metadata=stage.admin_key)

    assert first.load_seconds > 0
    assert second.load_seconds == 0
    assert [adapter.version for adapter in (await stage.residency()).adapters] == [V1]


async def test_warming_the_bare_base_costs_nothing(stage: Stage, bot: str) -> None:
    """versions/0 has no adapter to load."""
    request = serve_admin_service_pb2.WarmVersionRequest(name=f"{BOT}/versions/0")

    assert (await stage.admin.WarmVersion(request, metadata=stage.admin_key)).load_seconds == 0


async def test_residency_tells_who_uses_what(stage: Stage, bot: str) -> None:
    """A running stream is a lease on its adapter."""
    stage.engine.pause_after(1)
    stream = stage.chat.Chat(question(V1), metadata=ACME)
    await stream.read()

    residency = await stage.residency()

    assert [adapter.num_leases for adapter in residency.adapters] == [1]
    assert (residency.max_resident, residency.base_digest) == (4, stage.model.base.digest)
    stream.cancel()


async def test_a_drained_server_refuses_and_says_so_to_balancers(stage: Stage, bot: str) -> None:
    """After a drain nothing new is taken, and health is NOT_SERVING."""
    await stage.admin.Drain(serve_admin_service_pb2.DrainRequest(), metadata=stage.admin_key)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.chat.ChatUnary(question(V1), metadata=ACME)

    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    await stage.served("NOT_SERVING")


async def test_a_server_that_stops_lets_a_stream_end(stage: Stage, bot: str) -> None:
    """SIGTERM's path: what runs has its time, and ends with a Finish."""
    stage.engine.pause_after(1)
    stream = aiter(stage.chat.Chat(question(V1, max_output_tokens=8), metadata=ACME))
    await anext(stream)
    stage.engine.go_on()

    await stage.stop_server()

    assert [piece async for piece in stream][-1].HasField("finish")


async def test_an_answer_that_takes_longer_than_the_drain_is_told_so(stage: Stage, bot: str) -> None:
    """It ends with a reason of its own and the tokens that came, and what it had begun in the engine is stopped."""
    stage.overrides["drain_seconds"] = 0.2
    await stage.stop()
    await stage.start()
    await stage.followed()
    stage.engine.pause_after(2)
    stream = aiter(stage.chat.Chat(question(V1, max_output_tokens=8), metadata=ACME))
    for _ in range(2):
        await anext(stream)

    stopping = asyncio.create_task(stage.stop_server())
    last = await anext(stream)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(stream)
    await stopping

    assert (last.finish.reason, last.finish.num_output_tokens) == (Finish.REASON_SHUTDOWN, 2)
    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "SHUTDOWN")
    assert info_of(caught.value).metadata["num_output_tokens"] == "2"


async def test_who_watches_the_health_does_not_hold_up_a_stop(stage: Stage, bot: str) -> None:
    """A balancer's watch never ends by itself: it hears NOT_SERVING, and the server stops long before its drain time."""
    stage.overrides["drain_seconds"] = 3600.0
    await stage.stop()
    await stage.start()
    watch = stage.health.Watch(health_pb2.HealthCheckRequest(service=SERVE_SERVICE))
    await watch.read()

    await stage.stop_server()

    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
