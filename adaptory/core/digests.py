"""Content addresses: how files, sets of files and texts are named by what they hold. All are SHA-256 in lower-case hex."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def hash_file(path: Path) -> str:
    """Return the digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_text(text: str) -> str:
    """Return the digest of a text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_listing(files: Mapping[str, str]) -> str:
    """Return the digest of a set of files from the digest of each by name: of the lines `<digest>  <name>`, sorted by name.

    It is what `sha256sum` prints, so that anyone can check it with that command alone.
    """
    return hash_text("".join(f"{digest}  {name}\n" for name, digest in sorted(files.items())))
