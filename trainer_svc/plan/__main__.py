"""Answers one question: `python -m trainer_svc.plan`, the question as JSON on standard input, the answer on standard output.

The answer is `{"event": "done", ...}` with exit code 0, or `{"event": "error", ...}` with exit code 1. Needs no training library,
but to measure this machine's speed once.
"""

import json
import subprocess
import sys
from pathlib import Path

from pydantic import TypeAdapter

from adaptory.core.errors import ServiceError
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.memory.planner import rank_plans
from trainer_svc.memory.speed import DeviceSpeed
from trainer_svc.plan.answer import write_answer
from trainer_svc.plan.question import Question, Reading

_MEASURE_TIMEOUT_S = 120


def main() -> int:
    """Answer the question on standard input."""
    question = TypeAdapter(Question).validate_json(sys.stdin.buffer.read())
    machine = LocalMachine(Path(question.cache))
    try:
        reading = Reading.of(question, machine)
        request = reading.make_request(_find_speed(reading, machine))
        answer = {"event": "done", **write_answer(reading, request, rank_plans(reading.shape, request))}
    except ServiceError as error:
        _write(
            {
                "event": "error",
                "status": error.status.name,
                "reason": error.reason,
                "message": error.message,
                "metadata": error.metadata,
            }
        )
        return 1
    _write(answer)
    return 0


def _find_speed(reading: Reading, machine: LocalMachine) -> DeviceSpeed | None:
    """Return this machine's speed, measured now where it never was; None for another device, or without the training libraries."""
    if not reading.is_here:
        return None
    if machine.read_speed() is None:
        command = [sys.executable, "-m", "trainer_svc.worker.speed", str(machine.speed_file)]
        subprocess.run(command, capture_output=True, check=False, timeout=_MEASURE_TIMEOUT_S)  # noqa: S603 - ours
    return machine.read_speed()


def _write(event: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    sys.exit(main())
