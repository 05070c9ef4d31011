"""The command line against both services, scripted."""

from collections.abc import Iterator

import pytest

from adaptory.cli.__main__ import main
from tests.fakes.services import KEY, Run, ScriptedServices, open_in_thread


@pytest.fixture
def services() -> Iterator[ScriptedServices]:
    """Both services, scripted."""
    with open_in_thread() as services:
        yield services


@pytest.fixture
def run(services: ScriptedServices, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the scripted services; returns its exit code."""
    monkeypatch.setenv("ADAPTORY_TRAINER", services.trainer_address)
    monkeypatch.setenv("ADAPTORY_SERVER", services.server_address)
    monkeypatch.setenv("ADAPTORY_KEY", KEY)

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0)

    return run
