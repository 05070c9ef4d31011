"""A second version for some of a bot's conversations, set through the registry's door."""

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, registry_service_pb2
from tests.fakes.trainer import Trainer, info_of, reason_of
from tests.unit.trainer.test_registry_service import FAQ, VERSIONS, promote, retire


async def set_canary(trainer: Trainer, version: str, percent: int, etag: str = "") -> bot_pb2.Bot:
    """Let a version answer a share of the conversations."""
    request = registry_service_pb2.SetCanaryRequest(name=version, percent=percent, etag=etag)
    return await trainer.registry.SetCanary(request, metadata=trainer.admin)


async def test_a_canary_stands_beside_production_until_it_is_ended(trained: Trainer) -> None:
    """Its share changes, and every change has another etag; asking for what is so already changes nothing."""
    first, second = VERSIONS
    before = await promote(trained, first)
    tried = await set_canary(trained, second, 10)
    widened = await set_canary(trained, second, 50, etag=tried.routes.etag)
    again = await set_canary(trained, second, 50)
    ended = await set_canary(trained, second, 0)

    assert (tried.routes.production, tried.routes.canary, tried.routes.canary_percent) == (first, second, 10)
    assert (widened.routes.canary_percent, again) == (50, widened)
    assert (ended.routes.production, ended.routes.canary, ended.routes.canary_percent) == (first, "", 0)
    assert len({bot.routes.etag for bot in (before, tried, widened, ended)}) == 4


async def test_a_canary_that_is_promoted_is_one_no_more(trained: Trainer) -> None:
    """It answers everybody; the one before it is there to roll back to."""
    await promote(trained, VERSIONS[0])
    await set_canary(trained, VERSIONS[1], 25)
    routes = (await promote(trained, VERSIONS[1])).routes

    assert (routes.production, routes.previous, routes.canary, routes.canary_percent) == (*VERSIONS[::-1], "", 0)


@pytest.mark.parametrize(
    ("version", "percent", "reason"),
    [
        (1, 10, "VERSION_IN_PRODUCTION"),
        (2, 101, "INVALID_REQUEST"),
        (2, -1, "INVALID_REQUEST"),
        (1, 0, "NOT_THE_CANARY"),
    ],
)
async def test_a_canary_that_cannot_be_is_refused(trained: Trainer, version: int, percent: int, reason: str) -> None:
    """With version 1 in production and version 2 as the canary, which stays."""
    await promote(trained, VERSIONS[0])
    before = await set_canary(trained, VERSIONS[1], 5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_canary(trained, VERSIONS[version - 1], percent)
    request = registry_service_pb2.GetBotRequest(name=FAQ)

    assert reason_of(refused.value) == reason
    assert await trained.registry.GetBot(request, metadata=trained.admin) == before


async def test_a_bot_without_production_has_no_canary(trained: Trainer) -> None:
    """Nobody would answer the other conversations."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_canary(trained, VERSIONS[0], 10)

    assert reason_of(refused.value) == "NO_VERSION_PROMOTED"


async def test_a_canary_is_not_retired(trained: Trainer) -> None:
    """The error names the route."""
    await promote(trained, VERSIONS[0])
    await set_canary(trained, VERSIONS[1], 10)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await retire(trained, VERSIONS[1])

    assert info_of(refused.value).metadata["route"] == "canary"


async def end_canary(trainer: Trainer, version: str, reason: str) -> None:
    """Tell the registry, as a server does, that a canary is worse than production."""
    request = registry_service_pb2.EndCanaryRequest(name=version, reason=reason)
    await trainer.registry.EndCanary(request, metadata=trainer.server)


async def test_a_canary_that_a_server_ends_is_kept_with_the_reason_until_the_next(trained: Trainer) -> None:
    """A second server that says the same changes nothing, and another canary starts with a clean slate."""
    await promote(trained, VERSIONS[0])
    await set_canary(trained, VERSIONS[1], 10)
    await end_canary(trained, VERSIONS[1], "7 of its 20 requests failed.")
    request = registry_service_pb2.GetBotRequest(name=FAQ)
    ended = await trained.registry.GetBot(request, metadata=trained.admin)
    await end_canary(trained, VERSIONS[1], "9 of its 30 requests failed.")
    again = await trained.registry.GetBot(request, metadata=trained.admin)
    anew = await set_canary(trained, VERSIONS[1], 5)

    end = ended.routes.canary_end
    assert (ended.routes.canary, ended.routes.canary_percent, ended.routes.production) == ("", 0, VERSIONS[0])
    assert (end.version, end.reason) == (VERSIONS[1], "7 of its 20 requests failed.")
    assert end.time.ToDatetime() > ended.create_time.ToDatetime()
    assert again == ended
    assert not anew.routes.HasField("canary_end")


async def test_an_end_without_a_reason_is_refused(trained: Trainer) -> None:
    """Whoever looks at the bot must find out why."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await end_canary(trained, VERSIONS[0], "  ")

    assert reason_of(refused.value) == "INVALID_REQUEST"
