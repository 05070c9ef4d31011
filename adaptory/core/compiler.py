"""Where this machine's C++ compiler is."""

import os
import shutil


def find_compiler() -> str | None:
    """Return the compiler that CXX names, else g++ or clang++ of the PATH, else None."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
