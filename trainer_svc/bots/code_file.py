"""One source file, how large it may be, and which paths it may have."""

from collections.abc import Iterator
from dataclasses import dataclass

from adaptory.core.prompting import Renderer
from trainer_svc.bots.entry import RowKey
from trainer_svc.bots.problem import LineProblem

_MAX_PATH_CHARS = 1_024
_PIECE_CHARS = 2_048
_ODD_CHARS = frozenset(["\\", "\x7f", *map(chr, range(32))])


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """Caps of one dataset of code. Those of members, ignore files and what is unpacked are of archives, those of tests of JSONL."""

    max_files: int = 50_000
    max_file_bytes: int = 512 * 1024
    max_members: int = 500_000
    max_unpacked_bytes: int = 2 * 1024**3
    # Source code packs 4 to 10 times; a tree of alike files 50 times. Deflate ends at 1,032.
    max_ratio: int = 200
    max_ignore_file_bytes: int = 64 * 1024
    max_ignore_files: int = 200
    max_tests: int = 10_000
    max_test_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class CodeFile:
    """A file of a source tree; `content` is exactly its text, but for a byte order mark."""

    path: str
    content: str

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """One for the whole file, its content: a file is held out as a whole, and two with one content are duplicates."""
        return (RowKey(self.content),)

    @property
    def texts(self) -> tuple[str, ...]:
        """The content."""
        return (self.content,)

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the tokens of the file piece by piece: no row holds it as a whole, rows are cut to a job's longest."""
        for begin in range(0, len(self.content), _PIECE_CHARS):
            yield renderer.count_tokens(self.content[begin : begin + _PIECE_CHARS])


def check_path(path: str) -> str:
    """Return the path with single slashes between its parts, as git writes it.

    Raises LineProblem: PATH_UNSAFE where it is absolute, leads outside its tree, or holds what no file system of ours takes.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    is_absolute = path.startswith("/") or path[1:2] == ":"
    if is_absolute or ".." in parts or not parts:
        raise LineProblem(
            "PATH_UNSAFE", "the path is absolute, empty, or leads outside the tree; write it from the root on"
        )
    if len(path) > _MAX_PATH_CHARS:
        raise LineProblem("PATH_UNSAFE", f"the path has {len(path)} characters; at most {_MAX_PATH_CHARS} are taken")
    if any(char in _ODD_CHARS or "\ud800" <= char <= "\udfff" for char in path):
        sentence = "the path holds a backslash or a control character, or is not UTF-8; write it with slashes"
        raise LineProblem("PATH_UNSAFE", sentence)
    return "/".join(parts)
