"""What a caller sees when a call fails: one exception with the status, the stable reason, the numbers and the way out."""

from collections.abc import Mapping, Sequence

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from adaptory.core.errors import FieldViolation


class RpcFailed(Exception):
    """A call failed, or a job did. `reason` is a stable UPPER_SNAKE word, empty when no service of ours answered at all."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what was said; `metadata` holds the numbers of `message`, `retry_after_s` when a retry may help."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return code, reason and message in one line."""
        return f"{self.code.name} {self.reason}: {self.message}" if self.reason else f"{self.code.name}: {self.message}"

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError, address: str) -> "RpcFailed":
        """Translate what grpc raised for a call to `address`."""
        try:
            status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs forgot asyncio's errors
        except ValueError:
            # A proxy that rewrites the status leaves our details behind; then its own words count.
            status = None
        if status is not None:
            return cls.from_status(status)
        details = error.details() or "no reason was given"
        return cls(error.code(), _explain(error.code(), details, address))

    @classmethod
    def from_status(cls, status: status_pb2.Status) -> "RpcFailed":
        """Unpack a `google.rpc.Status`: that of a call, or the `error` of a failed job."""
        info, fields, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        retry_after_s = None
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(fields)
            if detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        return cls(
            grpc.StatusCode[code_pb2.Code.Name(status.code)],
            status.message,
            reason=info.reason,
            metadata=info.metadata,
            violations=[
                FieldViolation(violation.field, violation.description) for violation in fields.field_violations
            ],
            retry_after_s=retry_after_s,
        )


def is_interruption(failure: RpcFailed) -> bool:
    """Tell whether the service could not be reached or was going away, so that the same call may succeed later."""
    return failure.code is grpc.StatusCode.UNAVAILABLE


def _explain(code: grpc.StatusCode, details: str, address: str) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"{address} cannot be reached ({details}). Start the service, or give the address it listens on."
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} did not answer in time ({details}). Try again, or allow it more seconds."
    return details
