"""The contract: what is committed is what the sources say."""

import subprocess
from pathlib import Path

from tests.conftest import REPOSITORY


def test_the_committed_stubs_are_those_the_sources_generate(tmp_path: Path) -> None:
    """Nobody edits a stub by hand or forgets `make proto`."""
    subprocess.run([REPOSITORY / "scripts/generate-stubs.sh", tmp_path], check=True)

    generated = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*_pb2*")}
    committed = {
        file.relative_to(REPOSITORY): file.read_bytes()
        for file in (REPOSITORY / "adaptory").rglob("*_pb2*.py*")
        if "__pycache__" not in file.parts
    }
    assert generated == committed


def test_the_sources_pass_buf_lint() -> None:
    """Names, comments and packages follow the rules of proto/buf.yaml."""
    done = subprocess.run(
        [REPOSITORY / ".venv/bin/buf", "lint"], cwd=REPOSITORY / "proto", capture_output=True, text=True, check=False
    )

    assert done.stdout == ""
    assert done.returncode == 0
