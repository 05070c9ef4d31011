"""ServeAdminService through real stubs."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2

from adaptory.serve.v1 import serve_admin_service_pb2
from adaptory.serve.v1.generation_pb2 import Finish
from adaptory.serve.v1.serve_admin_service_pb2 import KnownVersion
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


async def test_residency_tells_what_the_engine_takes_at_once(stage: Stage, bot: str) -> None:
    """What was set, and what was chosen for the device where nothing was."""
    batches = (await stage.residency()).batches

    assert (batches.max_in_flight, batches.kept_places, batches.max_loras) == (16, 0, 2)
    assert (batches.max_step_tokens, batches.max_tokens_in_flight, batches.max_unread_tokens) == (2048, 16 * 256, 512)


async def test_residency_tells_how_far_each_version_has_come(stage: Stage, bot: str) -> None:
    """A version in the engine and one in quarantine, with why and since when; what nobody asked for is not there."""
    stage.add_version(f"{BOT}/versions/2", digest="0" * 64)
    stage.add_version(f"{BOT}/versions/3")
    await stage.followed()
    await stage.chat.ChatUnary(question(V1, max_output_tokens=1), metadata=ACME)
    with pytest.raises(grpc.aio.AioRpcError):
        await stage.chat.ChatUnary(question(f"{BOT}/versions/2"), metadata=ACME)

    residency = await stage.residency()

    states = {known.version: KnownVersion.State.Name(known.state) for known in residency.versions}
    assert states == {V1: "STATE_LOADED", f"{BOT}/versions/2": "STATE_QUARANTINED"}
    quarantine = residency.versions[1].quarantine
    assert (quarantine.reason, quarantine.HasField("retry_time")) == ("CORRUPTED", False)
    assert quarantine.since_time.seconds > 0
    assert 0 < residency.disk_bytes < residency.max_disk_bytes


async def test_a_released_version_is_tried_again(stage: Stage, bot: str) -> None:
    """Until then it is refused with its cause; afterwards a version whose bytes are right by now answers."""
    second = f"{BOT}/versions/2"
    voice = stage.add_version(second)
    await stage.followed()
    good = stage.registry.folder_of(second)
    stage.registry.replace_files(second, stage.registry.folder_of(V1))
    refusals = []
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.chat.ChatUnary(question(second), metadata=ACME)
        refusals.append(reason_of(caught.value))
    stage.registry.replace_files(second, good)

    released = await stage.admin.ReleaseVersion(
        serve_admin_service_pb2.ReleaseVersionRequest(name=second), metadata=stage.admin_key
    )
    answer = await stage.chat.ChatUnary(question(second, max_output_tokens=1), metadata=ACME)

    assert refusals == ["CORRUPTED", "VERSION_QUARANTINED"]
    assert released.quarantine.reason == "CORRUPTED"
    assert answer.text.strip() == voice


async def test_a_restarted_server_loads_what_was_used_last_first(stage: Stage, bot: str) -> None:
    """Of more versions than the engine holds the last used are there again before anybody asks, from the disk alone."""
    names = [f"{BOT}/versions/{number}" for number in range(1, 7)]
    for name in names[1:]:
        stage.add_version(name)
    await stage.followed()
    for name in (*names[1:], names[0]):
        await stage.chat.ChatUnary(question(name, max_output_tokens=1), metadata=ACME)
    num_downloads = stage.registry.num_downloads
    await stage.stop()
    await stage.start()

    await stage.loaded(names[0], *names[3:])

    assert stage.registry.num_downloads == num_downloads


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
