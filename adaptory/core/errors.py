"""The one tree of errors a caller may see.

Every error carries a gRPC status, a stable UPPER_SNAKE reason, a public message, and the numbers of that message as metadata.
`rpc.py` translates them once; nothing else touches `context.abort`. Private detail belongs in the log, never in `message`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field of a request: its path and a sentence that says what, the limit and the way out."""

    field: str
    description: str


class ServiceError(Exception):
    """Root of the tree. `metadata` holds every variable of `message`; `retry_after_s` is set where a retry may help."""

    status = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, object] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what the caller will be told; values of `metadata` are sent as text."""
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidRequest(ServiceError):
    """The request can never succeed as it is; `violations` names every field at once."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_REQUEST"

    @classmethod
    def of_field(cls, field: str, description: str, **metadata: object) -> "InvalidRequest":
        """Build the error for a single bad field; `metadata` holds the numbers of the sentence."""
        return cls(f"{field}: {description}", metadata=metadata, violations=[FieldViolation(field, description)])


class DoesNotFit(ServiceError):
    """No plan fits the memory limit; metadata has `limit_bytes` and `smallest_limit_bytes`."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "DOES_NOT_FIT"


class NotFound(ServiceError):
    """There is no such thing, or it belongs to another tenant: the two are never told apart."""

    status = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(ServiceError):
    """The name is taken, or the `request_id` was used with another request."""

    status = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class Unauthenticated(ServiceError):
    """No key, or one nobody issued."""

    status = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(ServiceError):
    """The key is good, but its role may not call this method."""

    status = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class FailedPrecondition(ServiceError):
    """The request is fine, the state of the thing is not; the message says what must happen first."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class AdapterRejected(FailedPrecondition):
    """The adapter's files must not be served; the reason says which rule they break."""

    default_reason = "ADAPTER_REJECTED"


class Conflict(ServiceError):
    """Somebody changed the thing in between (etag mismatch): read again, then retry."""

    status = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"


class Busy(ServiceError):
    """A queue or a quota is full; always has `retry_after_s`."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "BUSY"


class TooLarge(ServiceError):
    """A size limit is exceeded; metadata has the size and the limit."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "TOO_LARGE"


class Unavailable(ServiceError):
    """The service cannot answer now and it is safe to retry."""

    status = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    """The caller's deadline has passed; nothing was started, or what was started has been stopped."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class CallerLeft(ServiceError):
    """The caller has closed its connection: nobody hears this, and it is counted as cancelled."""

    status = grpc.StatusCode.CANCELLED
    default_reason = "CALLER_LEFT"


class SlowCaller(ServiceError):
    """The caller does not read what it asked for, and a server keeps it for nobody without end."""

    status = grpc.StatusCode.ABORTED
    default_reason = "SLOW_CALLER"


class Corrupted(ServiceError):
    """Bytes at rest are not those that were registered."""

    status = grpc.StatusCode.DATA_LOSS
    default_reason = "CORRUPTED"


class NotServed(ServiceError):
    """The contract has the method, this release does not serve it yet."""

    status = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "NOT_SERVED"
