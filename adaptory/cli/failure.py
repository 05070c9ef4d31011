"""How a failed command ends: what happened, the numbers and the way out on standard error, and an exit code scripts can act on."""

import json
import sys

import grpc
from rich.console import Console
from rich.text import Text

from adaptory.client import RpcFailed
from adaptory.core.errors import ServiceError

BAD_INPUT, DOES_NOT_FIT, NOT_FOUND, UNAVAILABLE, OTHER = 2, 3, 4, 5, 1

_EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: BAD_INPUT,
    grpc.StatusCode.FAILED_PRECONDITION: BAD_INPUT,
    grpc.StatusCode.ALREADY_EXISTS: BAD_INPUT,
    grpc.StatusCode.UNAUTHENTICATED: BAD_INPUT,
    grpc.StatusCode.PERMISSION_DENIED: BAD_INPUT,
    grpc.StatusCode.NOT_FOUND: NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: UNAVAILABLE,
}


def report_failure(failure: RpcFailed | ServiceError, *, as_json: bool) -> int:
    """Print the failure and return the exit code. With `as_json` it is one JSON object on standard output."""
    code = failure.code if isinstance(failure, RpcFailed) else failure.status
    exit_code = DOES_NOT_FIT if failure.reason == "DOES_NOT_FIT" else _EXIT_CODES.get(code, OTHER)
    if as_json:
        sys.stdout.write(json.dumps({"error": _to_dict(failure, code)}) + "\n")
    else:
        _print(failure, code)
    return exit_code


def _to_dict(failure: RpcFailed | ServiceError, code: grpc.StatusCode) -> dict[str, object]:
    return {
        "code": code.name,
        "reason": failure.reason,
        "message": failure.message,
        "metadata": failure.metadata,
        "violations": [{"field": item.field, "description": item.description} for item in failure.violations],
        "retry_after_seconds": failure.retry_after_s,
    }


def _print(failure: RpcFailed | ServiceError, code: grpc.StatusCode) -> None:
    console = Console(stderr=True)
    console.print(Text.assemble(("✗ ", "bold red"), (failure.message, "bold")), soft_wrap=True)
    # A single violation is the message itself.
    for item in failure.violations if len(failure.violations) > 1 else ():
        console.print(Text(f"  {item.field}: {item.description}"), soft_wrap=True)
    if failure.retry_after_s is not None:
        console.print(Text(f"  Try again in {failure.retry_after_s:g} s."))
    names = dict.fromkeys(name for name in (code.name, failure.reason) if name)
    console.print(Text(f"  {' '.join(names)}", style="dim"))
