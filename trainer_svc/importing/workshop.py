"""Where imports are worked on: a folder for each, gone when its work ends, however it ends. It blocks: call it in a thread."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adaptory.core.adapter_check import ADAPTER_FILES, AdapterLimits
from adaptory.core.base_model import PreparedBase
from adaptory.core.digests import hash_file
from adaptory.core.errors import Corrupted
from trainer_svc.bots.adapter_archive import unpack
from trainer_svc.bots.problem import LineProblem
from trainer_svc.importing.normal_form import NormalForm, write_normal_form
from trainer_svc.registry.artifacts import ArtifactStore
from trainer_svc.registry.datasets import Dataset

_COPIED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Workpiece:
    """An adapter in normal form, and the digests of its two files."""

    form: NormalForm
    files: dict[str, str]


class Workshop:
    """Brings uploaded adapters into normal form."""

    def __init__(self, folder: Path, artifacts: ArtifactStore, limits: AdapterLimits) -> None:
        """Take the folder, which is made when absent, where uploads are and files are kept, and what is asked of an adapter."""
        self._folder = folder
        self._artifacts = artifacts
        self._limits = limits
        folder.mkdir(parents=True, exist_ok=True)

    def check(self, dataset: Dataset, base: PreparedBase) -> Workpiece:
        """Return what an upload is in normal form, for this base, and keep nothing. Raises AdapterRejected, Corrupted."""
        return self._work(dataset, base, hash_file)

    def keep(self, dataset: Dataset, base: PreparedBase) -> Workpiece:
        """Return the same, and keep its files in the artifact store. Raises as `check`."""
        return self._work(dataset, base, self._put)

    def remove_leftovers(self) -> None:
        """Delete what a killed service left; call it before anything is imported."""
        for folder in self._folder.iterdir():
            shutil.rmtree(folder)

    def _work(self, dataset: Dataset, base: PreparedBase, digest_file: Callable[[Path], str]) -> Workpiece:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            source, target = Path(name) / "source", Path(name) / "target"
            source.mkdir()
            target.mkdir()
            self._unpack(dataset, Path(name) / "upload.tar", source)
            form = write_normal_form(source, target, base, self._limits)
            return Workpiece(form, {file: digest_file(target / file) for file in ADAPTER_FILES})

    def _unpack(self, dataset: Dataset, copy: Path, source: Path) -> None:
        # A blob is read from its beginning to its end; an archive is sought in.
        with self._artifacts.open(dataset.digest) as blob, copy.open("x+b") as archive:
            shutil.copyfileobj(blob, archive, _COPIED_BYTES)
            try:
                unpack(archive, source)
            except LineProblem as problem:
                message = (
                    f"{dataset.name} was READY and is no adapter any more: {problem.description}. Upload it again."
                )
                raise Corrupted(message, metadata={"name": dataset.name}) from problem
        copy.unlink()

    def _put(self, path: Path) -> str:
        file: BinaryIO
        with path.open("rb") as file:
            return self._artifacts.put(file).digest
