"""Tenants, bots, versions and routes through the registry's door."""

import hashlib

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, registry_service_pb2, serving_pb2, tenant_pb2, version_pb2
from tests.fakes.trainer import Trainer, fields_of, info_of, reason_of

FAQ = "tenants/aurora/bots/faq"
VERSIONS = [f"{FAQ}/versions/{number}" for number in (1, 2)]


async def promote(trainer: Trainer, version: str, etag: str = "") -> bot_pb2.Bot:
    """Make a version answer."""
    request = registry_service_pb2.PromoteVersionRequest(name=version, etag=etag)
    return await trainer.registry.PromoteVersion(request, metadata=trainer.admin)


async def roll_back(trainer: Trainer, bot: str) -> bot_pb2.Bot:
    """Let the version before answer."""
    return await trainer.registry.RollbackBot(registry_service_pb2.RollbackBotRequest(name=bot), metadata=trainer.admin)


async def retire(trainer: Trainer, version: str) -> version_pb2.Version:
    """Take a version out of use."""
    request = registry_service_pb2.RetireVersionRequest(name=version)
    return await trainer.registry.RetireVersion(request, metadata=trainer.admin)


async def test_a_tenant_comes_back_as_created(trainer: Trainer) -> None:
    """Name and limits are kept; the id is taken from then on."""
    limits = tenant_pb2.TenantLimits(max_requests_in_flight=7)
    request = registry_service_pb2.CreateTenantRequest(
        tenant_id="aurora", tenant=tenant_pb2.Tenant(display_name="Aurora Bikes", limits=limits)
    )
    created = await trainer.registry.CreateTenant(request, metadata=trainer.admin)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.registry.CreateTenant(request, metadata=trainer.admin)

    assert (created.name, created.limits.max_requests_in_flight) == ("tenants/aurora", 7)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_every_bad_field_is_told_at_once(trainer: Trainer) -> None:
    """A caller learns of all that is wrong with a bot in one answer."""
    await trainer.add_tenant("aurora")
    bad = bot_pb2.Bot(
        display_name="x" * 201,
        system_prompt="x" * 4001,
        generation_defaults=bot_pb2.GenerationDefaults(max_output_tokens=-1, temperature=9, top_p=2),
        quality_gate=bot_pb2.QualityGate(max_loss_ratio=-1),
    )
    request = registry_service_pb2.CreateBotRequest(parent="tenants/aurora", bot_id="No!", bot=bad)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.registry.CreateBot(request, metadata=trainer.admin)

    assert fields_of(refused.value) == [
        "bot_id",
        "bot.kind",
        "bot.base_model",
        "bot.display_name",
        "bot.system_prompt",
        "bot.generation_defaults.max_output_tokens",
        "bot.generation_defaults.temperature",
        "bot.generation_defaults.top_p",
        "bot.quality_gate.max_loss_ratio",
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"base_model": "unheard-of"}, "NOT_FOUND"),
        ({"base_model": "smollm2-135m-instruct"}, "BASE_NOT_PREPARED"),
    ],
)
async def test_a_bot_that_cannot_be_trained_is_refused(
    trainer: Trainer, fields: dict[str, object], reason: str
) -> None:
    """An unknown base and one that is not prepared each have their reason."""
    await trainer.add_tenant("aurora")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.add_bot("aurora", **fields)

    assert reason_of(refused.value) == reason


async def test_a_base_that_is_not_prepared_comes_with_its_command(trainer: Trainer) -> None:
    """The message says what to type."""
    await trainer.add_tenant("aurora")

    with pytest.raises(grpc.aio.AioRpcError, match="adaptory models prepare smollm2-135m-instruct"):
        await trainer.add_bot("aurora", base_model="smollm2-135m-instruct")


async def test_a_bot_of_an_unknown_tenant_is_not_found(trainer: Trainer) -> None:
    """The operator, too, cannot make a bot of nobody's."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.add_bot("nobody")

    assert reason_of(refused.value) == "NOT_FOUND"


async def test_promotion_and_rollback_change_places(trained: Trainer) -> None:
    """The version that answered becomes the previous one, and a rollback exchanges the two."""
    first, second = VERSIONS
    await promote(trained, first)
    promoted = (await promote(trained, second)).routes
    rolled_back = (await roll_back(trained, FAQ)).routes

    assert (promoted.production, promoted.previous) == (second, first)
    assert (rolled_back.production, rolled_back.previous) == (first, second)


async def test_promoting_what_answers_changes_nothing(trained: Trainer) -> None:
    """A retry of a promotion does not lose the previous version."""
    await promote(trained, VERSIONS[0])
    once = await promote(trained, VERSIONS[1])

    assert await promote(trained, VERSIONS[1]) == once


async def test_a_stale_etag_is_a_conflict(trained: Trainer) -> None:
    """Routes that somebody changed meanwhile are not overwritten, and the answer has the etag they are at."""
    seen = (await promote(trained, VERSIONS[0])).routes.etag
    current = (await promote(trained, VERSIONS[1], etag=seen)).routes.etag

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await promote(trained, VERSIONS[0], etag=seen)

    assert (refused.value.code(), info_of(refused.value).metadata["etag"]) == (grpc.StatusCode.ABORTED, current)


async def test_there_is_no_way_back_from_the_first_version(trained: Trainer) -> None:
    """A bot with one promotion cannot be rolled back."""
    await promote(trained, VERSIONS[0])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await roll_back(trained, FAQ)

    assert reason_of(refused.value) == "NO_PREVIOUS_VERSION"


async def test_a_version_that_answers_is_not_retired(trained: Trainer) -> None:
    """It stays, and the error names the route."""
    await promote(trained, VERSIONS[0])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await retire(trained, VERSIONS[0])

    assert info_of(refused.value).metadata["route"] == "production"


async def test_a_version_that_was_rolled_back_from_can_be_retired(trained: Trainer) -> None:
    """What turned out bad need not wait for two better ones; there is no way forward to it any more, and servers forget it."""
    for version in VERSIONS:
        await promote(trained, version)
    seen = (await roll_back(trained, FAQ)).routes
    retired = await retire(trained, VERSIONS[1])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await roll_back(trained, FAQ)
    bot = await trained.registry.GetBot(registry_service_pb2.GetBotRequest(name=FAQ), metadata=trained.admin)

    assert seen.previous == VERSIONS[1]
    assert retired.state == version_pb2.Version.STATE_RETIRED
    assert reason_of(refused.value) == "NO_PREVIOUS_VERSION"
    assert (bot.routes.production, bot.routes.previous) == (VERSIONS[0], "")
    assert bot.routes.etag != seen.etag


async def test_a_version_is_not_retired_by_who_has_not_seen_its_routes(trained: Trainer) -> None:
    """An etag of before the last promotion is a conflict, and the version stays READY."""
    seen = (await promote(trained, VERSIONS[0])).routes.etag
    await promote(trained, VERSIONS[1])
    request = registry_service_pb2.RetireVersionRequest(name=VERSIONS[0], etag=seen)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trained.registry.RetireVersion(request, metadata=trained.admin)

    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_a_retired_version_is_never_promoted(trained: Trainer) -> None:
    """Retiring is for ever."""
    await retire(trained, VERSIONS[0])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await promote(trained, VERSIONS[0])

    assert reason_of(refused.value) == "VERSION_NOT_READY"


async def test_version_zero_is_not_promoted(trained: Trainer) -> None:
    """The base without an adapter has no routes to it."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await promote(trained, f"{FAQ}/versions/0")

    assert fields_of(refused.value) == ["name"]


async def test_an_adapter_is_downloaded_as_registered(trained: Trainer) -> None:
    """The two files hash to the digest of the version, each in order and config first."""
    request = registry_service_pb2.DownloadAdapterRequest(name=VERSIONS[0])
    files: dict[str, bytes] = {}
    async for part in trained.registry.DownloadAdapter(request, metadata=trained.server):
        files[part.file_name] = files.get(part.file_name, b"") + part.data
    version = await trained.registry.GetVersion(
        registry_service_pb2.GetVersionRequest(name=VERSIONS[0]), metadata=trained.admin
    )

    listing = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    assert list(files) == ["adapter_config.json", "adapter_model.safetensors"]
    assert hashlib.sha256(listing.encode()).hexdigest() == version.digest


async def test_a_damaged_adapter_is_never_sent_as_good(trained: Trainer) -> None:
    """A flipped bit at rest ends the download with DATA_LOSS."""
    blobs = (trained.folder / "state" / "artifacts" / "sha256").glob("*/*")
    largest = max(blobs, key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[-1] ^= 1
    largest.write_bytes(raw)

    codes = []
    for version in VERSIONS:
        request = registry_service_pb2.DownloadAdapterRequest(name=version)
        call = trained.registry.DownloadAdapter(request, metadata=trained.server)
        codes.append(await _drain(call))

    assert sorted(code.name for code in codes) == ["DATA_LOSS", "OK"]


async def _drain(call: grpc.aio.UnaryStreamCall[object, object]) -> grpc.StatusCode:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_server_hears_of_a_promotion(trained: Trainer) -> None:
    """The snapshot has bot and versions as serving needs them; the promotion follows as a delta."""
    watch = trained.registry.WatchServing(
        registry_service_pb2.WatchServingRequest(), metadata=trained.server, timeout=10
    )
    snapshot: serving_pb2.ServingUpdate = await watch.read()
    await promote(trained, VERSIONS[1])
    delta: serving_pb2.ServingUpdate = await watch.read()
    watch.cancel()

    assert [version.name for version in snapshot.snapshot.versions] == VERSIONS
    assert [bot.routes.production for bot in delta.delta.changed.bots] == [VERSIONS[1]]
    assert delta.generation > snapshot.generation


async def test_a_retired_version_leaves_the_feed(trained: Trainer) -> None:
    """Servers are told by name what they must not serve any more."""
    watch = trained.registry.WatchServing(
        registry_service_pb2.WatchServingRequest(), metadata=trained.server, timeout=10
    )
    await watch.read()
    await retire(trained, VERSIONS[0])
    delta: serving_pb2.ServingUpdate = await watch.read()
    watch.cancel()

    assert list(delta.delta.removed) == [VERSIONS[0]]


async def test_a_message_over_the_limit_is_refused(trainer: Trainer) -> None:
    """GRPC refuses it before anything is parsed."""
    request = registry_service_pb2.AppendDatasetChunkRequest(
        name="tenants/aurora/datasets/ds-1", data=b"x" * (5 * 1024 * 1024)
    )

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.registry.AppendDatasetChunk(request, metadata=trainer.admin)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_deadline_that_has_passed_does_nothing(trainer: Trainer) -> None:
    """A call that comes too late is refused, and the tenant does not exist."""
    request = registry_service_pb2.CreateTenantRequest(tenant_id="late")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.registry.CreateTenant(request, metadata=trainer.admin, timeout=-1)

    tenants = await trainer.registry.ListTenants(registry_service_pb2.ListTenantsRequest(), metadata=trainer.admin)
    assert (refused.value.code(), list(tenants.tenants)) == (grpc.StatusCode.DEADLINE_EXCEEDED, [])
