"""Prepared bases on disk, made by hand: what is found, and what is noticed."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptory.core.base_model import BaseStore, PreparedBase, default_cache_root, find_base
from adaptory.core.errors import Corrupted, FailedPrecondition, NotFound
from tests.bases import TEMPLATE, write_prepared


def test_prepared_base_says_what_it_is(tmp_path: Path) -> None:
    """An opened base has its shape, template and end-of-turn token, and tells its two folders apart."""
    base = PreparedBase.open(write_prepared(tmp_path))

    assert (base.name, base.chat_template, base.end_of_turn_id) == ("tiny", TEMPLATE, 3)
    assert base.max_tokens == base.shape.max_tokens == 512
    assert base.digest != base.parity_digest
    assert base.parity_dir.is_dir()


def test_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    """Anyone can recompute a base's digest: `sha256sum` of one part's files by name, piped into `sha256sum`."""
    base = PreparedBase.open(write_prepared(tmp_path))

    names = sorted(path.name for path in base.parity_dir.iterdir())
    sums = subprocess.check_output(["sha256sum", *names], cwd=base.parity_dir)  # noqa: S607 - the user's own

    assert base.parity_digest == hashlib.sha256(sums).hexdigest()


def test_latest_preparation_is_found(tmp_path: Path) -> None:
    """Of several preparations of one name the latest is current."""
    write_prepared(tmp_path, created="2026-01-01T00:00:00+00:00")
    latest = write_prepared(tmp_path, created="2026-02-01T00:00:00+00:00")

    assert find_base("tiny", tmp_path).folder == latest


def test_unprepared_base_names_the_command(tmp_path: Path) -> None:
    """A base of the catalogue that is not here yet is answered with the command that prepares it."""
    with pytest.raises(FailedPrecondition, match="adaptory models prepare smollm2-135m-instruct") as refused:
        find_base("smollm2-135m-instruct", tmp_path)

    assert refused.value.reason == "BASE_NOT_PREPARED"


def test_unknown_base_names_the_known_ones(tmp_path: Path) -> None:
    """A name that is neither prepared nor in the catalogue is answered with those that are."""
    write_prepared(tmp_path, name="mine")

    with pytest.raises(NotFound, match=r"llama-2-7b, .*mine, .*smollm2-135m-instruct"):
        find_base("yours", tmp_path)


def test_unfinished_preparation_is_invisible(tmp_path: Path) -> None:
    """What a killed preparation leaves is never taken for a base, even with everything in it."""
    folder = write_prepared(tmp_path)
    folder.rename(folder.with_name(".building-1"))

    assert BaseStore(tmp_path).names() == []


@pytest.mark.parametrize("damage", ["shorter", "missing", "no manifest"])
def test_damaged_base_is_not_opened(damage: str, tmp_path: Path) -> None:
    """A file that is missing or has another size is noticed on opening, without reading the weights."""
    folder = write_prepared(tmp_path)
    weights = folder / "parity" / "model.safetensors"
    damages: dict[str, Callable[[], object]] = {
        "shorter": lambda: weights.write_bytes(b"p"),
        "missing": weights.unlink,
        "no manifest": lambda: (folder / "base.json").write_text("{"),
    }
    damages[damage]()

    with pytest.raises(Corrupted, match="is damaged"):
        find_base("tiny", tmp_path)


def test_changed_byte_is_found_by_verifying(tmp_path: Path) -> None:
    """A flipped byte keeps the size; verifying finds it and names the file and both sums."""
    base = PreparedBase.open(write_prepared(tmp_path))
    base.verify()
    (base.parity_dir / "model.safetensors").write_bytes(b"pasity")

    with pytest.raises(Corrupted, match=r"parity/model\.safetensors has sha256 [0-9a-f]{64}, not [0-9a-f]{64}"):
        base.verify()


def test_cache_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADAPTORY_CACHE_DIR moves the cache."""
    monkeypatch.setenv("ADAPTORY_CACHE_DIR", str(tmp_path))

    assert default_cache_root() == tmp_path
