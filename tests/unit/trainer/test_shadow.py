"""A version that is asked beside production, set through the registry's door."""

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, registry_service_pb2
from tests.fakes.trainer import Trainer, info_of, reason_of
from tests.unit.trainer.test_canary import set_canary
from tests.unit.trainer.test_registry_service import VERSIONS, promote, retire


async def set_shadow(trainer: Trainer, version: str, percent: int, etag: str = "") -> bot_pb2.Bot:
    """Have a version asked in a share of the conversations."""
    request = registry_service_pb2.SetShadowRequest(name=version, percent=percent, etag=etag)
    return await trainer.registry.SetShadow(request, metadata=trainer.admin)


async def test_a_shadow_stands_beside_production_until_it_is_ended(trained: Trainer) -> None:
    """Every change has another etag; asking for what is so already changes nothing, and a canary stays what it is."""
    first, second = VERSIONS
    before = await promote(trained, first)
    await set_canary(trained, second, 5)
    cast = await set_shadow(trained, second, 100)
    again = await set_shadow(trained, second, 100, etag=cast.routes.etag)
    ended = await set_shadow(trained, second, 0)

    assert (cast.routes.production, cast.routes.shadow, cast.routes.shadow_percent) == (first, second, 100)
    assert cast.routes.canary == second
    assert again == cast
    assert (ended.routes.shadow, ended.routes.shadow_percent, ended.routes.canary) == ("", 0, second)
    assert len({bot.routes.etag for bot in (before, cast, ended)}) == 3


async def test_a_shadow_that_is_promoted_is_one_no_more(trained: Trainer) -> None:
    """It answers everybody."""
    await promote(trained, VERSIONS[0])
    await set_shadow(trained, VERSIONS[1], 25)
    routes = (await promote(trained, VERSIONS[1])).routes

    assert (routes.production, routes.shadow, routes.shadow_percent) == (VERSIONS[1], "", 0)


@pytest.mark.parametrize(
    ("version", "percent", "reason"),
    [
        (1, 10, "VERSION_IN_PRODUCTION"),
        (2, 101, "INVALID_REQUEST"),
        (1, 0, "NOT_THE_SHADOW"),
    ],
)
async def test_a_shadow_that_cannot_be_is_refused(trained: Trainer, version: int, percent: int, reason: str) -> None:
    """With version 1 in production and version 2 as the shadow."""
    await promote(trained, VERSIONS[0])
    await set_shadow(trained, VERSIONS[1], 5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_shadow(trained, VERSIONS[version - 1], percent)

    assert reason_of(refused.value) == reason


async def test_a_change_of_routes_not_seen_is_refused(trained: Trainer) -> None:
    """Who acts on old routes is told so."""
    seen = await promote(trained, VERSIONS[0])
    await set_canary(trained, VERSIONS[1], 5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_shadow(trained, VERSIONS[1], 5, etag=seen.routes.etag)

    assert reason_of(refused.value) == "CONFLICT"


async def test_a_shadow_is_not_retired(trained: Trainer) -> None:
    """The error names the route."""
    await promote(trained, VERSIONS[0])
    await set_shadow(trained, VERSIONS[1], 10)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await retire(trained, VERSIONS[1])

    assert info_of(refused.value).metadata["route"] == "shadow"
