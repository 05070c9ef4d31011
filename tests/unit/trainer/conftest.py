"""What the trainer's tests share."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.trainer import Trainer


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer whose workers succeed at once."""
    async with Trainer(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a trainer that made two READY versions of aurora's bot and stopped; made once, copied by tests."""
    folder = tmp_path_factory.mktemp("trained")

    async def train_twice() -> None:
        async with Trainer(folder) as started:
            await started.add_tenant("aurora")
            for seed in (1, 2):
                await started.train("aurora", seed=seed)

    asyncio.run(train_twice())
    return folder


@pytest.fixture
async def trained(trained_folder: Path, tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer that holds two READY versions of aurora's bot."""
    shutil.copytree(trained_folder, tmp_path / "copy")
    async with Trainer(tmp_path / "copy") as started:
        yield started
