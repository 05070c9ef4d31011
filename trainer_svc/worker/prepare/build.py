"""The story of preparing a base: lock, clean up, fetch, convert, describe, publish.

A base becomes visible by one rename, after everything in it is on disk. Whatever a killed run leaves has a hidden name; the next
run, which holds the lock, deletes it.
"""

import fcntl
import importlib.metadata
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from adaptory.core.base_model import (
    MANIFEST_FILE,
    ORIGINAL,
    PARITY,
    BaseFile,
    BaseManifest,
    BaseStore,
    PreparedBase,
    files_digest,
)
from adaptory.core.base_shape import BaseShape
from adaptory.core.catalogue import CatalogueEntry
from adaptory.core.digests import hash_file
from adaptory.core.errors import Corrupted, FailedPrecondition, InvalidRequest
from trainer_svc.worker.prepare.checkpoint import CONFIG_FILES, TEMPLATE_FILE, Checkpoint, open_checkpoint
from trainer_svc.worker.prepare.fetch import fetch_source
from trainer_svc.worker.prepare.parity import QUANTISATION, round_to_nf4
from trainer_svc.worker.prepare.pins import pin_config_files
from trainer_svc.worker.prepare.progress import Progress
from trainer_svc.worker.prepare.safetensors_writer import BF16_BYTES, SafetensorsWriter

WEIGHTS_FILE = "model.safetensors"
_BUILDING = ".building-"
_VERSIONED = ("torch", "transformers", "bitsandbytes")


def prepare_base(entry: CatalogueEntry, store: BaseStore, progress: Progress, now: datetime) -> PreparedBase:
    """Return the prepared base, made now unless it exists already; two at once do the work once.

    Raises:
        ServiceError: Whatever `fetch_source` and the checkpoint's readers raise; the store is then as it was.
    """
    home = store.folder_of(entry.name)
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / ".lock", progress):
        _remove_leftovers(home)
        try:
            return _find_whole(entry, store)
        except FailedPrecondition:
            pass  # not prepared, or from another source: that is what we are here for
        with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=home) as building:
            manifest = _build(entry, Path(building), progress, now)
            progress.advance("publish")
            return PreparedBase.open(_publish(Path(building), home / manifest.digest))


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of one base; the kernel drops it when a process dies, however it dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(home: Path) -> None:
    for leftover in home.glob(f"{_BUILDING}*"):
        shutil.rmtree(leftover)


def _find_whole(entry: CatalogueEntry, store: BaseStore) -> PreparedBase:
    """Find the preparation made from this entry; damaged ones are removed on the way."""
    while True:
        try:
            return store.find_made_from(entry)
        except Corrupted as damage:
            shutil.rmtree(damage.metadata["folder"])


def _build(entry: CatalogueEntry, building: Path, progress: Progress, now: datetime) -> BaseManifest:
    pinned = entry.pinned_source()
    original, parity = building / ORIGINAL, building / PARITY
    original.mkdir()
    parity.mkdir()
    progress.advance("fetch")
    scratch = building / "scratch"
    scratch.mkdir()
    source = fetch_source(pinned, scratch)
    progress.advance("load")
    with open_checkpoint(source.path) as checkpoint:
        checkpoint.write_config_files(original)
        end_of_turn, end_of_turn_id = pin_config_files(entry, original)
        _convert(checkpoint, BaseShape.from_folder(original), building, progress)
    shutil.rmtree(scratch)
    for name in _config_files(original):
        os.link(original / name, parity / name)
    files = _describe_files(building, progress)
    manifest = BaseManifest(
        name=entry.name,
        source=str(pinned),
        source_sha256=source.sha256,
        digest=files_digest(files, ORIGINAL),
        parity_digest=files_digest(files, PARITY),
        quantisation=QUANTISATION,
        licence=entry.licence,
        end_of_turn=end_of_turn,
        end_of_turn_id=end_of_turn_id,
        versions={package: importlib.metadata.version(package) for package in _VERSIONED},
        created=now.isoformat(timespec="microseconds"),
        files=files,
        fim=entry.fim,
    )
    (building / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _convert(checkpoint: Checkpoint, shape: BaseShape, building: Path, progress: Progress) -> None:
    """Write both weight files in one pass, holding one tensor at a time."""
    shapes = checkpoint.shapes()
    linear = {f"{module}.weight": (rows, columns) for module, (columns, rows) in shape.linear_shapes().items()}
    if wrong := sorted(name for name, expected in linear.items() if shapes.get(name) != expected):
        problem = f"{wrong[0]} should have shape {linear[wrong[0]]}, but has {shapes.get(wrong[0])}"
        raise InvalidRequest.of_field("base.source", problem)
    total = sum(math.prod(shape) for shape in shapes.values()) * BF16_BYTES
    _check_space(building, 2 * total)
    done = 0
    with (
        SafetensorsWriter(building / ORIGINAL / WEIGHTS_FILE, shapes) as original,
        SafetensorsWriter(building / PARITY / WEIGHTS_FILE, shapes) as parity,
    ):
        for name in shapes:
            tensor = checkpoint.read(name)
            original.write(name, tensor)
            parity.write(name, round_to_nf4(tensor) if name in linear else tensor)
            done += tensor.numel() * BF16_BYTES
            progress.advance("convert", done, total)


def _check_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise FailedPrecondition(
            f"The prepared base takes {needed_bytes:,} bytes, {folder.parent} has {free_bytes:,} free; make room, "
            "or set ADAPTORY_CACHE_DIR to a larger disk",
            reason="DISK_FULL",
            metadata={"needed_bytes": needed_bytes, "free_bytes": free_bytes},
        )


def _config_files(folder: Path) -> list[str]:
    return [name for name in (*CONFIG_FILES, TEMPLATE_FILE) if (folder / name).exists()]


def _describe_files(building: Path, progress: Progress) -> tuple[BaseFile, ...]:
    paths = sorted(path for part in (ORIGINAL, PARITY) for path in (building / part).iterdir())
    total = sum(path.stat().st_size for path in paths)
    done = 0
    files = []
    for path in paths:
        size_bytes = path.stat().st_size
        files.append(BaseFile(path.relative_to(building).as_posix(), size_bytes, hash_file(path)))
        done += size_bytes
        progress.advance("hash", done, total)
    return tuple(files)


def _publish(building: Path, target: Path) -> Path:
    """Bring everything to disk, then give it its name; a former preparation of the same digest makes way."""
    building.chmod(0o755)  # a temporary folder is its owner's alone, a base is for both services
    for path in [*building.rglob("*"), building]:
        _sync(path)
    if target.exists():
        shutil.rmtree(target)
    building.rename(target)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
