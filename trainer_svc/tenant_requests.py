"""Reads what requests say of a tenant: its id, its name for people, its limits, and which of them are to change."""

from dataclasses import fields

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import TenantName, check_id
from adaptory.core.violations import Violations
from adaptory.registry.v1 import registry_service_pb2, tenant_pb2
from trainer_svc.edge import read_name
from trainer_svc.registry.tenants import TenantChange, TenantLimits

_MAX_DISPLAY_NAME_CHARS = 200
# Far above what anybody needs, and below what a column holds.
_MAX_IN_FLIGHT = 10_000
_MAX_COUNT = 10**9
_MAX_TOKENS = 10**15
_LARGEST = {
    "max_requests_in_flight": _MAX_IN_FLIGHT,
    "weight": 1_000,
    "tokens_per_minute": _MAX_TOKENS,
    "tokens_per_day": _MAX_TOKENS,
}
_LIMITS = tuple(field.name for field in fields(TenantLimits))
_PATHS = ("display_name", "limits", *(f"limits.{name}" for name in _LIMITS))


def read_new_tenant(request: registry_service_pb2.CreateTenantRequest) -> tuple[TenantName, TenantLimits]:
    """Check a new tenant and return its name and its limits. Raises InvalidRequest."""
    violations = Violations()
    try:
        check_id(request.tenant_id, field="tenant_id")
    except InvalidRequest as error:
        violations.add(error)
    _check(request.tenant, violations)
    violations.raise_if_any()
    return TenantName(request.tenant_id), TenantLimits(**_read_limits(request.tenant))


def read_tenant_change(request: registry_service_pb2.UpdateTenantRequest) -> TenantChange:
    """Return which fields of a tenant are to change. Raises InvalidRequest, NotFound."""
    name = read_name(TenantName, request.tenant.name, field="tenant.name")
    paths, violations = frozenset(request.update_mask.paths), Violations()
    unknown = sorted(paths - frozenset(_PATHS))
    violations.check(
        field="update_mask",
        is_good=bool(paths) and not unknown,
        sentence=f"has to name fields that can change: {', '.join(_PATHS)}; it has {', '.join(unknown) or 'none'}",
    )
    _check(request.tenant, violations)
    violations.raise_if_any()
    wanted = {
        limit: value
        for limit, value in _read_limits(request.tenant).items()
        if "limits" in paths or f"limits.{limit}" in paths
    }
    return TenantChange(name, request.tenant.display_name if "display_name" in paths else None, wanted)


def _check(tenant: tenant_pb2.Tenant, violations: Violations) -> None:
    violations.check_length(tenant.display_name, field="tenant.display_name", limit=_MAX_DISPLAY_NAME_CHARS)
    for limit, value in _read_limits(tenant).items():
        largest = _LARGEST.get(limit, _MAX_COUNT)
        violations.check(
            field=f"tenant.limits.{limit}",
            is_good=0 <= value <= largest,
            sentence=f"is {value}; it must be 0 to {largest}",
        )


def _read_limits(tenant: tenant_pb2.Tenant) -> dict[str, int]:
    return {limit: getattr(tenant.limits, limit) for limit in _LIMITS}
