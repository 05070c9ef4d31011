"""Which role may call which method of serve_svc, or route of its HTTP. What has no row is refused to everybody."""

from collections.abc import Mapping

from adaptory.core.auth import Role

_TENANT = frozenset({Role.TENANT})
_ADMIN = frozenset({Role.ADMIN})

ACCESS: Mapping[str, frozenset[Role]] = {
    "/adaptory.serve.v1.ServeService/Chat": _TENANT,
    "/adaptory.serve.v1.ServeService/ChatUnary": _TENANT,
    "/adaptory.serve.v1.ServeService/Complete": _TENANT,
    "/adaptory.serve.v1.ServeService/CompleteUnary": _TENANT,
    "/adaptory.serve.v1.ServeService/ListBots": _TENANT,
    "/adaptory.serve.v1.ServeService/CountTokens": _TENANT,
    "/adaptory.serve.v1.ServeAdminService/GetResidency": _ADMIN,
    "/adaptory.serve.v1.ServeAdminService/WarmVersion": _ADMIN,
    "/adaptory.serve.v1.ServeAdminService/ReleaseVersion": _ADMIN,
    "/adaptory.serve.v1.ServeAdminService/Drain": _ADMIN,
    "GET /v1/models": _TENANT,
    "GET /v1/models/{model:path}": _TENANT,
    "POST /v1/chat/completions": _TENANT,
    "POST /v1/completions": _TENANT,
}
