"""What both servicers do with every request: parse its name, refuse a foreign one, know a request that comes again."""

import hashlib
from typing import TypeVar

from google.protobuf.message import Message

from adaptory.core.auth import Role, current_caller
from adaptory.core.errors import PermissionDenied
from adaptory.core.names import ApiKeyName, BotName, DatasetName, TenantName, TrainingJobName, VersionName
from adaptory.core.violations import Violations
from trainer_svc.registry.requests import RequestKey

_MAX_REQUEST_ID_CHARS = 64

Name = TypeVar("Name", TenantName, ApiKeyName, DatasetName, BotName, VersionName, TrainingJobName)


def read_name(kind: type[Name], name: str, *, field: str = "name") -> Name:
    """Parse a resource name and check that it is the caller's own. Raises InvalidRequest, NotFound."""
    parsed = kind.parse(name, field=field)
    current_caller.get().require_tenant(parsed.tenant, name=name)
    return parsed


def require_operator(field: str) -> None:
    """Refuse whoever is not the operator and sets a field that only the operator may. Raises PermissionDenied."""
    if (role := current_caller.get().role) is not Role.ADMIN:
        message = f"{field} takes a key of {Role.ADMIN.value}; this one is of {role.value}: leave the field out, or ask the operator."
        raise PermissionDenied(message, reason="ROLE_NOT_ALLOWED", metadata={"field": field, "role": role.value})


def read_request_key(request: Message, *, tenant: TenantName, request_id: str) -> RequestKey:
    """Return by what a request of this tenant is known when it comes again. Raises InvalidRequest."""
    violations = Violations()
    violations.check_length(request_id, field="request_id", limit=_MAX_REQUEST_ID_CHARS)
    violations.raise_if_any()
    # The type's name along: requests of two methods may have the same bytes.
    content = request.DESCRIPTOR.full_name.encode() + b"\n" + request.SerializeToString(deterministic=True)
    return RequestKey(tenant.tenant, request_id, hashlib.sha256(content).hexdigest())


def name_caller() -> str:
    """Return whose key this call came with: `tenants/{tenant}`, or the role of a key that is no tenant's."""
    caller = current_caller.get()
    return str(TenantName(caller.tenant)) if caller.tenant else caller.role.value
