"""Programs of the services that a command runs as a child: what one of them said when it failed, as an error of our own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import grpc

from adaptory.core.errors import ServiceError


def ask(program: str, question: Mapping[str, object]) -> dict[str, Any]:
    """Run `python -m program`, write the question to it as JSON, and return its answer.

    Raises the ServiceError the program reported, or one with its last lines when it ended without an answer.
    """
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", program]
        ended = subprocess.run(  # noqa: S603 - our own program
            command, input=json.dumps(question), stdout=subprocess.PIPE, stderr=errors, text=True, check=False
        )
        answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1]) if ended.stdout.strip() else {}
        if answer.get("event") == "done":
            return answer
        raise to_error(answer) if answer.get("event") == "error" else crashed(program, ended.returncode, errors)


def to_error(event: Mapping[str, Any]) -> ServiceError:
    """Rebuild a child's error, so that it is reported like one of our own."""
    error = ServiceError(event["message"], reason=event["reason"], metadata=event["metadata"])
    error.status = grpc.StatusCode[event["status"]]
    return error


def crashed(what: str, exit_code: int, errors: IO[str]) -> ServiceError:
    """Return the error of a child that ended without saying why."""
    errors.seek(0)
    last_lines = "\n".join(errors.read().splitlines()[-5:])
    return ServiceError(f"{what} ended with exit code {exit_code}:\n{last_lines}", reason="CHILD_FAILED")
