"""What every edge does with a call, over gRPC and HTTP alike: let its caller in, count it, and say what failed but no secrets."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import grpc
import structlog

from adaptory.core.auth import Caller, Keyring, Role, authenticate, authorize
from adaptory.core.errors import ServiceError

log = structlog.get_logger()


class CallRecord(Protocol):
    """What a call's metrics need to hear."""

    def sent_message(self) -> None:
        """One message went to the client."""

    def ended(self, code: grpc.StatusCode) -> None:
        """The call ended with this code."""


async def admit_caller(
    method: str, metadata: Mapping[str, str | bytes], keyring: Keyring, access: Mapping[str, frozenset[Role]]
) -> Caller:
    """Return who calls `method`, by the key in `metadata`. Raises Unauthenticated or PermissionDenied."""
    caller = await authenticate(metadata, keyring)
    authorize(caller, method, access)
    return caller


@contextmanager
def handle_call(method: str, counted: AbstractContextManager[CallRecord]) -> Iterator[CallRecord]:
    """Count the call of the block, with `counted`, under the code that it ends with.

    Raises ServiceError for whatever fails in the block: what is none becomes INTERNAL with a fixed sentence and an error id that the
    log explains.
    """
    with counted as record:
        try:
            yield record
        except Exception as error:
            told = error if isinstance(error, ServiceError) else _hide(error, method)
            record.ended(told.status)
            if told is error:
                raise
            raise told from error
        record.ended(grpc.StatusCode.OK)


def _hide(error: Exception, method: str) -> ServiceError:
    error_id = secrets.token_hex(8)
    log.error("call_failed", method=method, error_id=error_id, exc_info=error)
    message = f"Something failed inside the service. Tell the operator the error id {error_id}."
    return ServiceError(message, metadata={"error_id": error_id})
