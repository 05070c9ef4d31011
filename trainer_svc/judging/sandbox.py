"""Runs a model's Python where it can reach nothing: no network, none of our files, little memory, time and disk.

The lock is bubblewrap's (Debian's package `bubblewrap`, program `bwrap`): namespaces of its own for users, processes, network, mounts
and the rest; no capability; of the file system, the system's libraries and the Python installation, all read-only, and an empty
folder in memory. Where it is not installed or may not make namespaces, nothing is run.

What it does not do: fence off bugs of the kernel, count the CPU time of child processes with that of their parent, or limit how many
processes there are where the service runs as root, whom Linux exempts. All of them end with the time limit.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.errors import FailedPrecondition

# Sets the limits, takes a word from standard input before the program may, and says it when that has run to its end: a program that
# leaves early, however politely, has passed no test.
_STARTER = """
import os, resource, runpy, sys
names = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_CORE")
for name, limit in zip(names, map(int, sys.argv[1:])):
    resource.setrlimit(getattr(resource, name), (limit, limit))
word, said = sys.stdin.readline(), os.dup(1)
nowhere = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(nowhere, stream)
sys.argv = ["/program.py"]
runpy.run_path("/program.py", run_name="__main__")
os.write(said, word.encode())
"""
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin")


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one run may take."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20
    file_bytes: int = 1 << 20
    folder_bytes: int = 16 << 20
    num_processes: int = 16
    num_open_files: int = 64


class SandboxUnavailable(FailedPrecondition):
    """This machine cannot lock a program in, so none is run."""

    default_reason = "SANDBOX_UNAVAILABLE"


class Sandbox:
    """Runs one program after the other, each from nothing."""

    def __init__(self, limits: SandboxLimits) -> None:
        """Find the lock and try it. Raises SandboxUnavailable."""
        self._limits = limits
        self._lock = shutil.which("bwrap")
        if self._lock is None:
            raise SandboxUnavailable("bubblewrap is not installed, so tests of code are not run; install `bubblewrap`.")
        if not self.runs("pass"):
            raise SandboxUnavailable(
                "bubblewrap cannot lock a program in here, so tests of code are not run; allow user namespaces to the service."
            )

    def runs(self, program: str) -> bool:
        """Tell whether a Python program runs to its end without an exception, within the limits. Blocks."""
        word = secrets.token_hex()
        with tempfile.TemporaryDirectory(prefix="adaptory-code-") as folder, tempfile.TemporaryFile() as said:
            file = Path(folder) / "program.py"
            file.write_text(program, encoding="utf-8", errors="surrogatepass")
            try:
                subprocess.run(  # noqa: S603 - the command is ours, the program is locked in
                    self._command(file),
                    input=f"{word}\n".encode(),
                    stdout=said,
                    stderr=subprocess.DEVNULL,
                    timeout=self._limits.wall_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return False
            said.seek(0)
            return said.read(2 * len(word)).decode("ascii", "replace").strip() == word

    def _command(self, program: Path) -> list[str]:
        limits, python = self._limits, Path(sys.base_prefix)
        interpreter = python / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        system = [part for folder in _SYSTEM_FOLDERS for part in ("--ro-bind-try", folder, folder)]
        numbers = (limits.cpu_s, limits.memory_bytes, limits.file_bytes, limits.num_processes, limits.num_open_files, 0)
        return [
            str(self._lock),
            *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
            *system,
            *("--ro-bind", str(python), str(python)),
            *("--ro-bind", str(program), "/program.py"),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", str(limits.folder_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108 - the sandbox's own
            *(str(interpreter), "-I", "-B", "-c", _STARTER),
            *map(str, numbers),
        ]
