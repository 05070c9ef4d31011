"""Prepares a base again and again, killed at each of its events in turn: `python -m tests.e2e.kill_preparation CHECKPOINT CACHE`.

Prints one JSON line a run, with what is visible after it, until a run comes through. One process imports torch, its forks die.
"""

import io
import itertools
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from adaptory.core.base_model import BaseStore
from adaptory.core.catalogue import CatalogueEntry, FolderSource
from trainer_svc.worker.prepare.build import prepare_base
from trainer_svc.worker.prepare.progress import Progress


class DeadlyStream(io.StringIO):
    """Takes so many events, then kills the process as the kernel would."""

    def __init__(self, num_events: int) -> None:
        """Take `num_events`."""
        super().__init__()
        self._left = num_events

    def write(self, text: str) -> int:
        """Count the event, or kill."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return super().write(text)


def main() -> None:
    """Kill at the first event, the second, and so on."""
    entry, store = CatalogueEntry("tiny", FolderSource(Path(sys.argv[1]))), BaseStore(Path(sys.argv[2]))
    for num_events in itertools.count():
        child = os.fork()
        if child == 0:
            prepare_base(entry, store, Progress(DeadlyStream(num_events)), datetime.now(UTC))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": status, "visible": store.names()}))  # noqa: T201 - the parent reads it
        if status != signal.SIGKILL:
            return


if __name__ == "__main__":
    main()
