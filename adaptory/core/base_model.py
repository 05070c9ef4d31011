"""Base models on disk: what a prepared base is, where it lives, and whether its bytes are still what they were.

Layout: `<cache>/bases/<name>/<digest>/` with `original/` and `parity/` (bf16 safetensors, config, tokenizer) and `base.json`,
written last. Making such a folder is the worker's `prepare`; here it is only found, opened and verified.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import platformdirs

from adaptory.core.base_shape import BaseShape
from adaptory.core.catalogue import Catalogue, CatalogueEntry, FolderSource, PypiSource, Source, SplitSource, parse_name
from adaptory.core.digests import digest_listing, hash_file
from adaptory.core.errors import Corrupted, FailedPrecondition, NotFound

MANIFEST_FILE = "base.json"
ORIGINAL, PARITY = "original", "parity"


@dataclass(frozen=True, slots=True)
class BaseFile:
    """One file of a prepared base: its path below the base's folder."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BaseManifest:
    """What `base.json` says: where the base came from, what it holds, and with what it was made.

    `source_sha256` is that of a wheel, or of the listing of several or of a folder's files. `created` is UTC in ISO 8601.
    `fim` is the catalogue's family of FIM tokens; empty, the base is taught a form of its own.
    """

    name: str
    source: str
    source_sha256: str
    digest: str
    parity_digest: str
    quantisation: str
    licence: str
    end_of_turn: str
    end_of_turn_id: int
    versions: dict[str, str]
    created: str
    files: tuple[BaseFile, ...]
    fim: str = ""  # a base prepared before there were families has none

    def to_json(self) -> str:
        """Return the text of `base.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "BaseManifest":
        """Read `base.json` of a base's folder.

        Raises:
            Corrupted: The file is missing or does not hold such a manifest.
        """
        try:
            fields = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            return cls(**{**fields, "files": tuple(BaseFile(**file) for file in fields["files"])})
        except (OSError, ValueError, TypeError, KeyError) as err:
            raise _corrupted(folder, f"{MANIFEST_FILE} cannot be read ({type(err).__name__})") from err


@dataclass(frozen=True, slots=True)
class PreparedBase:
    """A base ready for use. Train against `original_dir` in NF4 or against `parity_dir`; judge and serve on `parity_dir`."""

    folder: Path
    manifest: BaseManifest
    shape: BaseShape
    chat_template: str

    @classmethod
    def open(cls, folder: Path) -> "PreparedBase":
        """Open a prepared base and compare the sizes of its files; `verify` compares their bytes.

        Raises:
            Corrupted: A file is missing or has another size than when the base was prepared.
        """
        folder = folder.absolute()
        manifest = BaseManifest.read(folder)
        for file in manifest.files:
            _check_size(folder, file)
        original = folder / ORIGINAL
        template = (original / "chat_template.jinja").read_text(encoding="utf-8")
        return cls(folder, manifest, BaseShape.from_folder(original), template)

    @property
    def name(self) -> str:
        """The name bots use."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """Digest of the original files."""
        return self.manifest.digest

    @property
    def parity_digest(self) -> str:
        """Digest of the parity files: the base that adapters are judged and served on."""
        return self.manifest.parity_digest

    @property
    def original_dir(self) -> Path:
        """Folder of the weights as published, in bf16."""
        return self.folder / ORIGINAL

    @property
    def parity_dir(self) -> Path:
        """Folder of the weights at their dequantised NF4 values, in bf16."""
        return self.folder / PARITY

    @property
    def tokenizer_file(self) -> Path:
        """The `tokenizer.json` of both."""
        return self.original_dir / "tokenizer.json"

    @property
    def max_tokens(self) -> int:
        """Longest sequence the base knows, prompt and answer together."""
        return self.shape.max_tokens

    @property
    def end_of_turn(self) -> str:
        """The special token that closes the bot's turn."""
        return self.manifest.end_of_turn

    @property
    def end_of_turn_id(self) -> int:
        """Id of `end_of_turn`."""
        return self.manifest.end_of_turn_id

    @property
    def fim(self) -> str:
        """Name of its family of FIM tokens, or empty."""
        return self.manifest.fim

    @property
    def size_bytes(self) -> int:
        """Bytes on disk; a file shared by both folders counts twice."""
        return sum(file.size_bytes for file in self.manifest.files)

    def verify(self) -> None:
        """Hash every file again; for a 7B base this reads 27 GB.

        Raises:
            Corrupted: A file's bytes are not those that were prepared; the message names it and both sums.
        """
        for file in self.manifest.files:
            found = hash_file(self.folder / file.path)
            if found != file.sha256:
                raise _corrupted(self.folder, f"{file.path} has sha256 {found}, not {file.sha256}")


@dataclass(frozen=True, slots=True)
class BaseStore:
    """All prepared bases below one cache folder."""

    root: Path

    def folder_of(self, name: str) -> Path:
        """Return where the preparations of `name` live, whether there are any or not. Raises InvalidRequest on a bad name."""
        return self.root / "bases" / parse_name(name)

    def names(self) -> list[str]:
        """Return the names that have a preparation, sorted."""
        return sorted(folder.name for folder in (self.root / "bases").glob("*") if _preparations(folder))

    def find(self, name: str) -> PreparedBase:
        """Open the latest preparation of `name`.

        Raises:
            FailedPrecondition: BASE_NOT_PREPARED; the message has the command that prepares it.
            Corrupted: It is damaged.
        """
        manifests = [(BaseManifest.read(folder).created, folder) for folder in _preparations(self.folder_of(name))]
        if not manifests:
            raise _not_prepared(name)
        return PreparedBase.open(max(manifests)[1])

    def find_made_from(self, entry: CatalogueEntry) -> PreparedBase:
        """Open the latest preparation of the entry's name, if it was made from the entry's source as it is now.

        An entry without a source takes whatever was prepared under its name.

        Raises:
            FailedPrecondition: BASE_NOT_PREPARED, or made from another source, or the source's folder changed since.
            Corrupted: It is damaged.
        """
        base = self.find(entry.name)
        source, manifest = entry.source, base.manifest
        if source is None:
            return base
        is_same_wheel = not isinstance(source, PypiSource | SplitSource) or source.sha256 == manifest.source_sha256
        if manifest.source != str(source) or not is_same_wheel or _has_changed(source, manifest.created):
            raise _not_prepared(entry.name)
        return base


def find_base(name: str, cache_root: Path) -> PreparedBase:
    """Open the prepared base `name` below `cache_root`.

    Raises:
        NotFound: Neither prepared nor in the catalogue; the message has the names that are.
        FailedPrecondition: BASE_NOT_PREPARED; the message has the command that prepares it.
        Corrupted: It is damaged.
    """
    store = BaseStore(cache_root)
    try:
        return store.find(name)
    except FailedPrecondition:
        _check_known(name, store.names())
        raise


def default_cache_root() -> Path:
    """Return the cache folder: ADAPTORY_CACHE_DIR, or this user's cache folder by the platform's rules."""
    # The one environment variable read outside the services' settings: the command line has none of those.
    own = os.environ.get("ADAPTORY_CACHE_DIR")
    return Path(own).absolute() if own else Path(platformdirs.user_cache_dir("adaptory"))


def files_digest(files: Iterable[BaseFile], part: str) -> str:
    """Return the digest of one part: SHA-256 over "<sha256>  <path inside the part>" lines, sorted by path."""
    prefix = f"{part}/"
    return digest_listing(
        {file.path.removeprefix(prefix): file.sha256 for file in files if file.path.startswith(prefix)}
    )


def _preparations(folder: Path) -> list[Path]:
    """Return the finished ones: a preparation in the making has a hidden name, and none becomes visible unfinished."""
    return sorted(manifest.parent for manifest in folder.glob(f"[!.]*/{MANIFEST_FILE}"))


def _not_prepared(name: str) -> FailedPrecondition:
    command = f"adaptory models prepare {name}"
    return FailedPrecondition(
        f"The base model {name} is not prepared on this machine; run: {command}",
        reason="BASE_NOT_PREPARED",
        metadata={"name": name, "command": command},
    )


def _has_changed(source: Source, since: str) -> bool:
    """Tell whether a local folder has a file written after `since`; the other sources are pinned and cannot change."""
    if not isinstance(source, FolderSource):
        return False
    instant = datetime.fromisoformat(since).timestamp()
    return any(file.stat().st_mtime > instant for file in source.path.glob("*"))


def _check_known(name: str, prepared: list[str]) -> None:
    known = sorted({*Catalogue.load().entries, *prepared})
    if name not in known:
        raise NotFound(
            f"There is no base model {name!r}; there are: {', '.join(known)}",
            metadata={"name": name, "known": ", ".join(known)},
        )


def _check_size(folder: Path, file: BaseFile) -> None:
    path = folder / file.path
    found = path.stat().st_size if path.is_file() else "no"
    if found != file.size_bytes:
        raise _corrupted(folder, f"{file.path} has {found} bytes, not {file.size_bytes}")


def _corrupted(folder: Path, problem: str) -> Corrupted:
    return Corrupted(
        f"The prepared base {folder.parent.name} is damaged: {problem}. Delete {folder} and prepare it again",
        reason="BASE_CORRUPTED",
        metadata={"folder": folder},
    )
