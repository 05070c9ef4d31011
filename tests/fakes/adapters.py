"""What the adapter cache is given in tests: a source that reads folders, and observers."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from adaptory.core.errors import ServiceError, Unavailable
from serve_svc.adapters.files import FileChunk
from serve_svc.adapters.quarantine import Quarantine
from serve_svc.version import AdapterVersion

_CHUNK_BYTES = 1 << 16


class FolderSource:
    """An AdapterSource over folders by digest. `is_down` makes it answer nobody, `num_damaged` of its next answers lose bytes.

    `num_reads` counts what began, `num_refused` what did not.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = dict(folders)
        self.is_down = False
        self.num_damaged = 0
        self.num_reads = 0
        self.num_refused = 0

    async def read(self, version: AdapterVersion) -> AsyncIterator[FileChunk]:
        """Stream the folder's files, whatever they are."""
        if self.is_down:
            self.num_refused += 1
            raise Unavailable("The registry is down; retry in 1 s.", retry_after_s=1.0)
        self.num_reads += 1
        is_damaged = self.num_damaged > 0
        self.num_damaged -= is_damaged
        for file in sorted(self.folders[version.digest].iterdir()):
            data = file.read_bytes()[: -1 if is_damaged else None]
            for start in range(0, len(data), _CHUNK_BYTES):
                yield FileChunk(file.name, data[start : start + _CHUNK_BYTES])


class RecordingObserver:
    """An AdapterObserver that keeps what it is told."""

    def __init__(self) -> None:
        self.loaded: list[AdapterVersion] = []
        self.failed: list[tuple[AdapterVersion, ServiceError]] = []
        self.unloaded: list[AdapterVersion] = []
        self.quarantined: list[tuple[AdapterVersion, Quarantine]] = []

    def adapter_loaded(self, version: AdapterVersion, seconds: float) -> None:
        """Keep the version."""
        self.loaded.append(version)

    def adapter_failed(self, version: AdapterVersion, error: ServiceError) -> None:
        """Keep the version and its error."""
        self.failed.append((version, error))

    def adapter_unloaded(self, version: AdapterVersion) -> None:
        """Keep the version."""
        self.unloaded.append(version)

    def adapter_quarantined(self, version: AdapterVersion, quarantine: Quarantine) -> None:
        """Keep the version and why it is refused."""
        self.quarantined.append((version, quarantine))
