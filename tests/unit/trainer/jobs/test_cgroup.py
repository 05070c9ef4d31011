"""A container's memory, from files as the kernel writes them."""

from pathlib import Path

import pytest

from trainer_svc.jobs.cgroup import GroupMemory, read_group_memory


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_a_containers_limit_is_told_with_what_is_left(tmp_path: Path) -> None:
    """Version 2 in a namespace of its own: file pages that can be taken back are free."""
    _write(tmp_path, own="0::/")
    _write(tmp_path / "fs", memory__max="1000", memory__current="700", memory__stat="anon 500\ninactive_file 100")

    assert read_group_memory(tmp_path / "fs", tmp_path / "own") == GroupMemory(1000, 400)


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    """A service below a slice: one has the lower limit, the other less left."""
    _write(tmp_path, own="0::/slice/service")
    _write(tmp_path / "fs" / "slice", memory__max="2000", memory__current="1900", memory__stat="inactive_file 0")
    _write(tmp_path / "fs/slice/service", memory__max="1000", memory__current="100", memory__stat="inactive_file 0")

    assert read_group_memory(tmp_path / "fs", tmp_path / "own") == GroupMemory(1000, 100)


def test_version_1_is_read_too(tmp_path: Path) -> None:
    """Each controller has a folder of its own there."""
    _write(tmp_path, own="5:cpu:/elsewhere\n4:memory:/docker/x")
    _write(
        tmp_path / "fs" / "memory" / "docker" / "x",
        memory__limit_in_bytes="1000",
        memory__usage_in_bytes="300",
        memory__stat="total_inactive_file 50",
    )

    assert read_group_memory(tmp_path / "fs", tmp_path / "own") == GroupMemory(1000, 750)


@pytest.mark.parametrize("limit", ["max", None])
def test_without_a_limit_there_is_none(tmp_path: Path, limit: str | None) -> None:
    """An unlimited group, and a system without such files."""
    _write(tmp_path, own="0::/")
    if limit:
        _write(tmp_path / "fs", memory__max=limit, memory__current="700", memory__stat="inactive_file 100")

    assert read_group_memory(tmp_path / "fs", tmp_path / "own") is None
    assert read_group_memory(tmp_path / "fs", tmp_path / "missing") is None
