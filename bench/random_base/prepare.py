"""Prepares random bases below one cache folder, each by the command a user would type for a base of their own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from adaptory.core.base_model import PreparedBase, find_base

_WRITE, _PREPARE = "bench.random_base", "trainer_svc.worker.prepare"


def prepare_random_base(name: str, config: Mapping[str, object], like: PreparedBase, cache: Path) -> PreparedBase:
    """Return a base of these sizes with the tokenizer of another. Raises CalledProcessError when it cannot be made."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _run(_WRITE, json.dumps(dict(config)), str(like.original_dir), folder)
        _run(_PREPARE, name, "--source", f"dir:{folder}", "--cache", str(cache))
    return find_base(name, cache)


def _run(program: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", program, *arguments], check=True, capture_output=True, text=True)
