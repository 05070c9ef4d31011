"""Fixtures of the contract suites."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contracts.engine_stand import EngineKind, EngineStand, FakeKind, VllmKind


@pytest.fixture(scope="session")
def parity_base(request: pytest.FixtureRequest) -> Path:
    """The base that is served: a folder named by the environment, or the embedded base, prepared on first use."""
    if named := os.environ.get("ADAPTORY_TEST_BASE"):
        return Path(named)
    folder: Path = request.getfixturevalue("prepared_base")
    return folder / "parity"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "vllm"])
async def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineStand]:
    """One engine for the whole module, as building vLLM takes seconds; tests that end it come last."""
    kind: EngineKind = FakeKind() if request.param == "fake" else VllmKind(request.getfixturevalue("parity_base"))
    stand = EngineStand(kind, tmp_path_factory.mktemp(request.param))
    await stand.supervisor.start()
    yield stand
    await stand.supervisor.stop()
