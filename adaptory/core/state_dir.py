"""The folder that one service owns: its lock, and the file that says where it listens."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from adaptory.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service listens, HOST:PORT each; `openai` is empty where nothing of the kind is served."""

    grpc: str
    metrics: str
    openai: str = ""

    def addresses(self) -> dict[str, str]:
        """Return where what is served, by its name here."""
        return {name: address for name, address in asdict(self).items() if address}


@contextmanager
def own_state_dir(folder: Path) -> Iterator[None]:
    """Own the folder while the block runs; it is made where it is missing. Raises InvalidRequest while another process owns it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            sentence = f"{folder} is in use by another process: stop it, or give each its own"
            raise InvalidRequest.of_field("state_dir", sentence) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def published_endpoint(folder: Path, endpoint: Endpoint) -> Iterator[None]:
    """Say in `endpoint.json` where the service listens while the block runs: with port 0 nobody could know otherwise."""
    file = folder / "endpoint.json"
    aside = folder / "endpoint.json.part"
    aside.write_text(json.dumps(endpoint.addresses()) + "\n")
    aside.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
