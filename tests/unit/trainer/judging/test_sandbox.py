"""What a program in the sandbox can do, which is to compute, and what it cannot."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer_svc.judging.sandbox import Sandbox, SandboxLimits, SandboxUnavailable


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """A sandbox; skipped where this machine has no lock for one."""
    try:
        return Sandbox(SandboxLimits(wall_s=20.0, cpu_s=3, memory_bytes=256 << 20))
    except SandboxUnavailable as error:
        pytest.skip(error.message)


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("program", "passes"),
    [
        ("import json, re, math\nassert sum(range(5)) == 10", True),
        ("open('note', 'w').write('x')\nassert open('note').read() == 'x'", True),
        ("print('chatter' * 100000)", True),
        ("assert 1 == 2", False),
        ("def broken(:", False),
        ("import sys; sys.exit(0)", False),
        ("import os; os._exit(0)", False),
        ("while True: pass", False),
        ("data = bytearray(1 << 30)", False),
        ("open('big', 'wb').write(b'x' * (2 << 20))", False),
        ("held = [open('/dev/null') for _ in range(200)]", False),
        ("import os; os.mkdir('/usr/ours')", False),
        ("open('/program.py', 'a').write('x')", False),
    ],
)
def test_a_program_passes_when_it_runs_to_its_end(sandbox: Sandbox, program: str, passes: bool) -> None:  # noqa: FBT001
    """Exceptions, early exits, and whatever takes too much time, memory, disk or files do not pass."""
    assert sandbox.runs(program) is passes


def test_there_is_no_network(sandbox: Sandbox, listener: int) -> None:
    """Not even to this machine."""
    program = f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), timeout=2)"

    assert not sandbox.runs(program)
    assert sandbox.runs(f"try:\n    exec({program!r})\nexcept OSError:\n    pass\nelse:\n    raise SystemExit")


def test_our_files_are_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    """Neither a tenant's data beside us nor this repository."""
    secret = tmp_path / "registry.db"
    secret.write_text("secret")

    for path in (secret, Path(__file__), Path.home() / ".cache"):
        assert sandbox.runs(f"import os; assert not os.path.exists({str(path)!r})")


def test_every_run_begins_from_nothing(sandbox: Sandbox) -> None:
    """What one program leaves, the next does not find."""
    assert sandbox.runs("open('/tmp/left', 'w').close()")
    assert sandbox.runs("import os; assert not os.path.exists('/tmp/left')")


def test_children_end_with_the_time_limit(sandbox: Sandbox) -> None:
    """A program that leaves a child behind, holding its output, does not hold us up."""
    assert sandbox.runs("import os, time\nif os.fork() == 0:\n    time.sleep(600)")


def test_without_the_lock_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SandboxUnavailable, match="install `bubblewrap`"):
        Sandbox(SandboxLimits())
