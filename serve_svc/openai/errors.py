"""Says our errors as OpenAI does: an HTTP status, and one object whose `code` is our reason."""

import math
import re
from collections.abc import Mapping

from grpc import StatusCode

from adaptory.core.errors import ServiceError, TooLarge

_TOO_LARGE = 413
_BAD = (400, "invalid_request_error")
_FAILED = (500, "server_error")
# HTTP status and OpenAI's `type`; what is not here has failed inside.
_STATUSES: Mapping[StatusCode, tuple[int, str]] = {
    StatusCode.INVALID_ARGUMENT: _BAD,
    StatusCode.FAILED_PRECONDITION: _BAD,
    StatusCode.OUT_OF_RANGE: _BAD,
    StatusCode.UNAUTHENTICATED: (401, "authentication_error"),
    StatusCode.PERMISSION_DENIED: (403, "permission_error"),
    StatusCode.NOT_FOUND: (404, "invalid_request_error"),
    StatusCode.ALREADY_EXISTS: (409, "conflict_error"),
    StatusCode.ABORTED: (409, "conflict_error"),
    StatusCode.RESOURCE_EXHAUSTED: (429, "rate_limit_error"),
    StatusCode.CANCELLED: (499, "cancelled_error"),
    StatusCode.UNIMPLEMENTED: (501, "server_error"),
    StatusCode.UNAVAILABLE: (503, "server_error"),
    StatusCode.DEADLINE_EXCEEDED: (504, "server_error"),
}
# What the contract calls otherwise than OpenAI does.
_FIELDS: Mapping[str, str] = {
    "name": "model",
    "conversation_key": "user",
    "prefix": "prompt",
    "options.max_output_tokens": "max_tokens",
}
_OPTION = re.compile(r"\boptions\.\w+")


def find_status(error: ServiceError) -> int:
    """Return the HTTP status."""
    return _TOO_LARGE if isinstance(error, TooLarge) else _STATUSES.get(error.status, _FAILED)[0]


def make_headers(error: ServiceError) -> dict[str, str]:
    """Return what a client reads beside the body: when to try again, or how to say who it is."""
    if error.status is StatusCode.UNAUTHENTICATED:
        return {"www-authenticate": "Bearer"}
    if error.retry_after_s is None:
        return {}
    # In whole seconds for everybody, and as exactly as it is known for OpenAI's own clients.
    milliseconds = max(1, round(error.retry_after_s * 1000))
    return {"retry-after": str(math.ceil(milliseconds / 1000)), "retry-after-ms": str(milliseconds)}


def dump_error(error: ServiceError) -> dict[str, object]:
    """Return the body; with several violations all are in the message, and `param` is the first."""
    message = error.message
    if error.violations:
        message = "; ".join(f"{_rename(violation.field)}: {violation.description}" for violation in error.violations)
    return {
        "error": {
            "message": _OPTION.sub(lambda found: _rename(found[0]), message),
            "type": "invalid_request_error" if isinstance(error, TooLarge) else _STATUSES.get(error.status, _FAILED)[1],
            "param": _rename(error.violations[0].field) if error.violations else None,
            "code": error.reason,
        }
    }


def _rename(field: str) -> str:
    return _FIELDS.get(field, field.removeprefix("options."))
