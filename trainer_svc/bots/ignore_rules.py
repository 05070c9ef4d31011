"""What the `.gitignore` files of a source tree say of its paths, by git's rules.

Patterns are matched in time linear in the path (RE2): the backtracking matcher takes seconds for one path and a pattern such as
`*a*a*a*a*b`, and patterns come with the data. A character class inside a set, as in `[[:alpha:]]`, is not followed.
"""

import re

import re2
from pathspec import GitIgnoreSpec

from trainer_svc.bots.problem import LineProblem

IGNORE_FILE = ".gitignore"
_MAX_PATTERNS = 1_000
_MAX_PATTERN_CHARS = 256
# Sets in sets, which Python's expressions may read otherwise one day, and RE2 otherwise today.
_NESTED_SET = re.compile(r"\[[^\]]*(?:\[|--|&&|~~|\|\|)")


class IgnoreRules:
    """The ignore files of one tree. Add all of them, then ask."""

    def __init__(self) -> None:
        """Begin with none."""
        self._specs: dict[str, GitIgnoreSpec] = {}
        self._ignored_folders: dict[str, bool] = {"": False}

    def __len__(self) -> int:
        """How many ignore files there are."""
        return len(self._specs)

    def add(self, folder: str, text: str) -> None:
        """Take the ignore file of a folder, "" being the root. Raises LineProblem (IGNORE_FILE) where it cannot be followed."""
        lines = text.splitlines()
        if len(lines) > _MAX_PATTERNS or any(len(line) > _MAX_PATTERN_CHARS for line in lines):
            sentence = f"a {IGNORE_FILE} has more than {_MAX_PATTERNS} lines, or one of more than {_MAX_PATTERN_CHARS} characters"
            raise LineProblem("IGNORE_FILE", sentence)
        self._specs[folder] = GitIgnoreSpec.from_lines(filter(_is_pattern, lines), backend="re2")

    def ignores(self, path: str) -> bool:
        """Tell whether git would leave out a file; a file in an ignored folder is ignored, whatever other rules say."""
        folder = path.rpartition("/")[0]
        return self._ignores_folder(folder) or self._matches(path, folder)

    def _ignores_folder(self, folder: str) -> bool:
        if folder not in self._ignored_folders:
            parent = folder.rpartition("/")[0]
            self._ignored_folders[folder] = self._ignores_folder(parent) or self._matches(f"{folder}/", parent)
        return self._ignored_folders[folder]

    def _matches(self, path: str, folder: str) -> bool:
        """Ask the ignore files of `folder` and of those above it; the nearest that has something to say decides."""
        while True:
            spec = self._specs.get(folder)
            verdict = spec.check_file(path[len(folder) + 1 if folder else 0 :]).include if spec else None
            if verdict is not None or not folder:
                return bool(verdict)
            folder = folder.rpartition("/")[0]


def _is_pattern(line: str) -> bool:
    """Tell whether a pattern can be followed; git, too, goes on without one that cannot, and without a word."""
    if _NESTED_SET.search(line):
        return False
    try:
        GitIgnoreSpec.from_lines([line], backend="re2")
    except (ValueError, re.error, re2.error):
        return False
    return True
