"""What every artifact store promises."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from adaptory.core.errors import Corrupted
from trainer_svc.registry.artifacts import ArtifactStore, LocalArtifacts

BYTES = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(BYTES).hexdigest()
Damage = Callable[[str], None]


@pytest.fixture(params=["local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """One store of each implementation."""
    return {"local": LocalArtifacts}[request.param](tmp_path)


@pytest.fixture
def damage(store: ArtifactStore, tmp_path: Path) -> Damage:
    """Flip one bit of a blob at rest, behind the store's back."""

    def flip_bit(digest: str) -> None:
        (path,) = tmp_path.rglob(digest)
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)

    return flip_bit


class BrokenSource(io.RawIOBase):
    """Some bytes, then an error: an upload that broke."""

    def __init__(self) -> None:
        """Begin with bytes to give."""
        super().__init__()
        self.has_given = False

    def readable(self) -> bool:
        """It can be read, once."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Give bytes, then break."""
        if self.has_given:
            raise OSError
        self.has_given = True
        return b"half"


def test_bytes_come_back_under_their_digest(store: ArtifactStore) -> None:
    """What is put is read back, and addressed by its SHA-256."""
    blob = store.put(io.BytesIO(BYTES))

    with store.open(blob.digest) as file:
        assert (blob.digest, blob.size_bytes, file.read()) == (DIGEST, len(BYTES), BYTES)


def test_nothing_is_a_blob_like_any_other(store: ArtifactStore) -> None:
    """No bytes at all can be kept, too."""
    blob = store.put(io.BytesIO())

    with store.open(blob.digest) as file:
        assert file.read() == b""


def test_the_same_bytes_are_one_blob(store: ArtifactStore, tmp_path: Path) -> None:
    """Putting twice is as putting once."""
    digests = {store.put(io.BytesIO(BYTES)).digest for _ in range(2)}

    assert digests == {DIGEST}
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_flipped_bit_is_found_by_the_reader(store: ArtifactStore, damage: Damage) -> None:
    """A read to the end never returns as if the bytes were those put."""
    store.put(io.BytesIO(BYTES))
    damage(DIGEST)

    with pytest.raises(Corrupted), store.open(DIGEST) as file:
        file.read()


def test_a_flipped_bit_is_found_line_by_line(store: ArtifactStore, damage: Damage) -> None:
    """A reader of lines finds it, too, at the latest where the file ends."""
    store.put(io.BytesIO(BYTES))
    damage(DIGEST)

    with pytest.raises(Corrupted), store.open(DIGEST) as file:
        for _ in file:
            pass


def test_putting_again_mends_a_damaged_blob(store: ArtifactStore, damage: Damage) -> None:
    """Bytes that are known to be good replace what is there."""
    store.put(io.BytesIO(BYTES))
    damage(DIGEST)
    store.put(io.BytesIO(BYTES))

    with store.open(DIGEST) as file:
        assert file.read() == BYTES


def test_a_missing_blob_is_corruption(store: ArtifactStore) -> None:
    """A blob somebody names but nobody has is data lost, not a thing that never was."""
    with pytest.raises(Corrupted) as lost:
        store.open(DIGEST)

    assert lost.value.reason == "BLOB_MISSING"


def test_a_source_that_breaks_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    """Half an upload is not kept under any name."""
    source: BinaryIO = BrokenSource()  # type: ignore[assignment]  # a raw stream has all that is used

    with pytest.raises(OSError):  # noqa: PT011 - an error of the source, passed on as it is
        store.put(source)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
