"""What a tenant may use, changed through the registry's door while servers listen."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from adaptory.registry.v1 import registry_service_pb2, serving_pb2, tenant_pb2
from tests.fakes.trainer import Trainer, fields_of, reason_of

AURORA = "tenants/aurora"


async def update(trainer: Trainer, *paths: str, name: str = AURORA, **limits: Any) -> tenant_pb2.Tenant:
    """Change the fields that `paths` name."""
    tenant = tenant_pb2.Tenant(name=name, display_name="Aurora", limits=tenant_pb2.TenantLimits(**limits))
    request = registry_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask=FieldMask(paths=paths))
    return await trainer.registry.UpdateTenant(request, metadata=trainer.admin)


async def test_a_limit_changes_alone_and_servers_hear_of_it(trainer: Trainer) -> None:
    """What the mask does not name stays; a change that changes nothing is told to nobody."""
    await trainer.add_tenant("aurora")
    watch = trainer.registry.WatchServing(
        registry_service_pb2.WatchServingRequest(), metadata=trainer.server, timeout=10
    )
    snapshot: serving_pb2.ServingUpdate = await watch.read()
    await update(trainer, "limits.tokens_per_day", tokens_per_day=10_000_000_000, requests_per_minute=3)
    first: serving_pb2.ServingUpdate = await watch.read()
    await update(trainer, "limits.tokens_per_day", tokens_per_day=10_000_000_000)
    changed = await update(trainer, "limits.requests_per_minute", requests_per_minute=60)
    second: serving_pb2.ServingUpdate = await watch.read()
    watch.cancel()

    assert first.delta.changed.tenants[0].limits == tenant_pb2.TenantLimits(tokens_per_day=10_000_000_000)
    assert second.delta.changed.tenants[0].limits == changed.limits
    assert changed.limits == tenant_pb2.TenantLimits(tokens_per_day=10_000_000_000, requests_per_minute=60)
    assert (changed.display_name, second.generation) == ("", snapshot.generation + 2)


async def test_all_limits_change_at_once(trainer: Trainer) -> None:
    """`limits` stands for every one of them: what is not given is no limit any more."""
    await trainer.add_tenant("aurora")
    await update(trainer, "limits.max_prompt_tokens", max_prompt_tokens=100)
    changed = await update(trainer, "limits", "display_name", max_output_tokens=64, max_requests_in_flight=2)
    request = registry_service_pb2.GetTenantRequest(name=AURORA)

    assert changed.limits == tenant_pb2.TenantLimits(max_output_tokens=64, max_requests_in_flight=2)
    assert changed.display_name == "Aurora"
    assert await trainer.registry.GetTenant(request, metadata=trainer.admin) == changed


async def test_what_cannot_change_is_refused(trainer: Trainer) -> None:
    """Every bad field is named, and nothing changes."""
    await trainer.add_tenant("aurora")
    limits = "tenant.limits."
    cases: list[tuple[tuple[str, ...], dict[str, int], list[str]]] = [
        ((), {}, ["update_mask"]),
        (("name", "limits.unheard_of"), {}, ["update_mask"]),
        (
            ("limits",),
            {"tokens_per_day": -1, "requests_per_minute": -1},
            [f"{limits}requests_per_minute", f"{limits}tokens_per_day"],
        ),
        (("limits",), {"max_requests_in_flight": 10_001}, [f"{limits}max_requests_in_flight"]),
        (("limits.weight",), {"weight": 1_001}, [f"{limits}weight"]),
    ]
    for paths, values, fields in cases:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await update(trainer, *paths, **values)
        assert fields_of(refused.value) == fields
    request = registry_service_pb2.GetTenantRequest(name=AURORA)

    assert (await trainer.registry.GetTenant(request, metadata=trainer.admin)).limits == tenant_pb2.TenantLimits()


async def test_an_unknown_tenant_is_not_found(trainer: Trainer) -> None:
    """There is nothing to change."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await update(trainer, "limits", name="tenants/nobody")

    assert reason_of(refused.value) == "NOT_FOUND"
