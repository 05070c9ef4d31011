"""The server under test, behind its real port."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.server import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A registry, and a server that follows it, with nothing in either."""
    async with Stage(tmp_path) as stage:
        yield stage
