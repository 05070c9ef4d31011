"""Keys: made once, kept as digests, readable by their owner only."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adaptory.core.auth import load_or_make_key, make_key


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else on the machine reads the operator's key."""
    file = tmp_path / "state" / "admin.key"
    load_or_make_key(file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    """Whoever comes second reads the first one's key, and nothing is left over."""
    file = tmp_path / "admin.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_or_make_key(file), range(32)))

    assert len(keys) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_keys_hold_256_random_bits() -> None:
    """Long enough never to be guessed, and never the same twice."""
    keys = {make_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(len(key.removeprefix("adk_")) == 43 for key in keys)
