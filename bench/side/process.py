"""An engine of a measurement in a process of its own, as those who ask it see it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Self

from bench.side.engine import Answer, Run, RunResult, Side, Size

# The processes of a vLLM that has answered look for more at a core's full speed, for a second.
_IDLE_S = 1.2


class SideProcess:
    """One side's child process; a context that ends it."""

    def __init__(
        self,
        side: Side,
        weights_dir: Path,
        adapters: list[Path],
        *,
        size: Size = Size(),  # noqa: B008 - a value
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, with `environment` beside this process's own; it is not ready yet."""
        words = [side.value, size.max_sequences, size.max_step_tokens, weights_dir, *adapters]
        command = [sys.executable, "-m", "bench.side.engine", *map(str, words)]
        told = {**os.environ, **(environment or {})}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=told)
        self.adapter_path = ""

    def __enter__(self) -> Self:
        """End it when this ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end: it does so with its standard input."""
        assert self._child.stdin is not None  # noqa: S101 - asked for above
        self._child.stdin.close()
        self._child.wait(timeout=60)

    def await_ready(self) -> None:
        """Return when the engine has come up, and keep what computes its adapters."""
        self.adapter_path = json.loads(self._read())["adapter_path"]

    def answer(self, run: Run) -> RunResult:
        """Return what the side answers, once the others are quiet; ends the measurement when the side has ended."""
        time.sleep(_IDLE_S)
        assert self._child.stdin is not None  # noqa: S101 - asked for above
        self._child.stdin.write(json.dumps(asdict(run)) + "\n")
        self._child.stdin.flush()
        told = json.loads(self._read())
        return RunResult([Answer(**answer) for answer in told["answers"]], told["seconds"])

    def _read(self) -> str:
        assert self._child.stdout is not None  # noqa: S101 - asked for above
        if line := self._child.stdout.readline():
            return line
        raise SystemExit(f"a side has ended with {self._child.wait()}; what it wrote above says why")
