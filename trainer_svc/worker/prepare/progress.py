"""What the child tells its parent, one JSON object a line; the parent is `adaptory.cli.models`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Progress:
    """Writes events to `stream`. A parent that is gone raises BrokenPipeError at the next event, which ends the child."""

    stream: TextIO

    def wait(self) -> None:
        """Say that another process prepares the same base."""
        self._write({"event": "waiting"})

    def advance(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Say how far a phase is, in bytes; a total of 0 means nobody knows."""
        self._write({"event": "progress", "phase": phase, "done": done, "total": total})

    def finish(self, folder: str) -> None:
        """Say where the prepared base is; the last event of a success."""
        self._write({"event": "done", "folder": folder})

    def fail(self, status: str, reason: str, message: str, metadata: Mapping[str, str]) -> None:
        """Say what went wrong; the last event of a failure."""
        self._write(
            {"event": "error", "status": status, "reason": reason, "message": message, "metadata": dict(metadata)}
        )

    def _write(self, event: Mapping[str, object]) -> None:
        self.stream.write(json.dumps(event) + "\n")
        self.stream.flush()
