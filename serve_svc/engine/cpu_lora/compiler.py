"""Builds `kernel.cpp` for the processor it will run on, once; later engines find it in the cache folder."""

import hashlib
import platform
import subprocess
import tempfile
from pathlib import Path

from adaptory.core.base_model import default_cache_root
from adaptory.core.compiler import find_compiler

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "kernel.cpp"
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_TIMEOUT_S = 120


class NotBuilt(Exception):
    """There is no kernel on this machine; the text says why."""


def build_kernel(cache_dir: Path | None = None) -> Path:
    """Return the built kernel, a shared library; building takes seconds. Raises NotBuilt."""
    built = (cache_dir or default_cache_root() / "kernels") / f"{_identity()}.so"
    try:
        if not built.exists():
            built.parent.mkdir(parents=True, exist_ok=True)
            _compile(built)
    except OSError as error:
        raise NotBuilt(f"{error.filename or built.parent} cannot be used: {error.strerror}") from error
    return built


def _compile(built: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        raise NotBuilt("there is neither g++ nor clang++")
    # Engines may build at once, and one may be killed over it: only a whole file ever has the name.
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        half_built = Path(folder) / built.name
        command = [compiler, *_FLAGS, "-o", str(half_built), str(_SOURCE)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)  # noqa: S603 - ours
        except subprocess.TimeoutExpired as error:
            raise NotBuilt(f"{compiler} took longer than {_TIMEOUT_S} s") from error
        if ended.returncode:
            first_line = (ended.stderr.splitlines() or ["it says nothing"])[0]
            raise NotBuilt(f"{compiler} ended with {ended.returncode}: {first_line}")
        half_built.replace(built)


def _identity() -> str:
    """Name what the built file depends on: a cache folder may be shared by machines of several kinds."""
    sources = [file.read_text() for file in sorted(_FOLDER.iterdir()) if file.suffix in {".cpp", ".h"}]
    parts = (*sources, *_FLAGS, platform.machine(), _processor_flags())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
