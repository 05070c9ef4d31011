"""What the trainer's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.trainer import Trainer


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer whose workers succeed at once."""
    async with Trainer(tmp_path) as started:
        yield started
