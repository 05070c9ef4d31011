"""The server under test, behind its real port."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.fakes.openai_caller import HTTP, add_bots, open_client
from tests.fakes.server import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A registry, and a server that follows it, with nothing in either."""
    async with Stage(tmp_path) as stage:
        yield stage


@pytest.fixture
async def openai_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server that speaks OpenAI's interface as well, with bots of two tenants."""
    stage = Stage(tmp_path)
    stage.overrides.update(HTTP)
    async with stage:
        await add_bots(stage)
        yield stage


@pytest.fixture
async def client(openai_stage: Stage) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of that server, with acme's key."""
    async with open_client(openai_stage) as client:
        yield client
