"""Brings an adapter from its source to the point where an engine may have it: every byte as registered, and judged.

Tries again what may pass without harm, the source and the disk. The engine, which is never asked twice, is `cache.py`'s.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from adaptory.core.errors import Corrupted, Unavailable
from serve_svc.adapters.files import AdapterFiles
from serve_svc.backoff import Backoff
from serve_svc.version import AdapterVersion

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServedBase:
    """The base the engine runs: its digest, and the judge of adapters made for it, which raises AdapterRejected."""

    digest: str
    judge: Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a source or a disk that does not answer is asked, and with what pauses."""

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    randomness: random.Random = field(default_factory=random.Random)


class AdapterLoader:
    """Fetches and judges; many versions at once, each at the caller's pace."""

    def __init__(self, files: AdapterFiles, base: ServedBase, patience: Patience) -> None:
        """Keep the files in `files`, and judge by `base`."""
        self._files = files
        self._base = base
        self._patience = patience

    async def fetch(self, version: AdapterVersion) -> Path:
        """Return the version's folder, every byte hashed. Raises Corrupted, Unavailable or NotFound when trying again was in vain."""
        try:
            return await self._insist(lambda: self._files.fetch(version))
        except Corrupted as error:
            # A transfer is rarely damaged, and hardly twice: then it is the source.
            log.warning("adapter_fetched_again", version=version.name, why=error.message)
            return await self._insist(lambda: self._files.fetch(version))

    async def judge(self, version: AdapterVersion, folder: Path) -> None:
        """Return when the folder may be served. Raises AdapterRejected, or Unavailable when the disk cannot be read."""
        await self._insist(lambda: self._judge_once(version, folder))

    async def _judge_once(self, version: AdapterVersion, folder: Path) -> Path:
        try:
            await asyncio.to_thread(self._base.judge, folder)
        except OSError as error:
            raise self._files.failed(version, error) from error
        return folder

    async def _insist(self, work: Callable[[], Awaitable[Path]]) -> Path:
        for num_failures in range(1, self._patience.max_attempts):
            try:
                return await work()
            except Unavailable as error:
                log.info("adapter_fetch_delayed", why=error.message)
            await self._patience.sleep(self._patience.backoff.delay_s(num_failures, self._patience.randomness))
        return await work()
