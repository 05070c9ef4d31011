"""What a container may still take: the limit and the use of the control group this process is in, as Linux tells them.

A container's limit is not in /proc/meminfo, and beyond it the kernel kills. Read are version 2 (cgroups(7): `memory.max`,
`memory.current`) and version 1 (`memory.limit_in_bytes`, `memory.usage_in_bytes`).
"""

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# Limit, use, and the line of `memory.stat` with the file pages the kernel takes back when memory is short.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """Bytes that may be taken in all, and those that are left."""

    limit_bytes: int
    free_bytes: int


def read_group_memory(root: Path = _ROOT, own: Path = _OWN) -> GroupMemory | None:
    """Return the tightest limit of this process's group and those above it, None where there is none or no such files."""
    found = [memory for folder in _list_folders(root, own) if (memory := _read(folder)) is not None]
    if not found:
        return None
    return GroupMemory(min(memory.limit_bytes for memory in found), min(memory.free_bytes for memory in found))


def _list_folders(root: Path, own: Path) -> list[Path]:
    """Return the folders of the group and all above it. In a container of its own the group is the root itself."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / controllers
            group = top / path.lstrip("/")
            folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return folders


def _read(folder: Path) -> GroupMemory | None:
    for limit_file, use_file, reclaimable in _FILES:
        try:
            limit = (folder / limit_file).read_text(encoding="ascii").strip()
            used = int((folder / use_file).read_text(encoding="ascii"))
            stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        if limit == "max":
            return None
        cached = dict(line.split(maxsplit=1) for line in stat).get(reclaimable, "0")
        return GroupMemory(int(limit), max(0, int(limit) - used + int(cached)))
    return None
