"""Fixtures that every kind of test may ask for."""

import json
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

# A slow machine is not a wrong answer.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).parent.parent
EMBEDDED_BASE = "smollm2-135m-instruct"
SECOND_BASE = "gemma-3-270m"


@pytest.fixture(scope="session")
def prepared_base() -> Path:
    """The folder of the embedded base, prepared once into the user's cache by the command a user would type."""
    return _prepare(EMBEDDED_BASE)


@pytest.fixture(scope="session")
def prepared_gemma() -> Path:
    """The folder of the second base: 240 MB are fetched on the first run, two minutes' work, and found ever after."""
    return _prepare(SECOND_BASE)


def _prepare(name: str) -> Path:
    command = [sys.executable, "-m", "adaptory.cli", "models", "prepare", name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=900)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["folder"])
