"""The nodes of a file's syntax tree, for the languages a grammar is here for."""

import importlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

from tree_sitter import Language, Parser

# For each ending of a name the grammar's package and its function. C headers may be C++, which reads most of C.
_GRAMMARS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **dict.fromkeys((".py", ".pyi"), ("tree_sitter_python", "language")),
        **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), ("tree_sitter_javascript", "language")),
        **dict.fromkeys((".ts", ".mts", ".cts"), ("tree_sitter_typescript", "language_typescript")),
        ".tsx": ("tree_sitter_typescript", "language_tsx"),
        ".java": ("tree_sitter_java", "language"),
        ".go": ("tree_sitter_go", "language"),
        ".rs": ("tree_sitter_rust", "language"),
        ".c": ("tree_sitter_c", "language"),
        **dict.fromkeys((".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), ("tree_sitter_cpp", "language")),
    }
)
_MAX_NODES = 50_000


class Grammars:
    """Parsers by language, each made when a file first needs it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._parsers: dict[tuple[str, str], Parser] = {}

    def find_nodes(self, path: str, content: str, max_bytes: int) -> list[tuple[int, int]]:
        """Return begin and end, in characters, of the named nodes that are whole, no longer than `max_bytes`, and not the whole file.

        In the order in which they begin, the outer one first; nothing where the path's ending has no grammar. Of a file with very
        many nodes only the first are looked at.
        """
        grammar = _GRAMMARS.get(PurePosixPath(path).suffix.lower())
        if grammar is None:
            return []
        encoded = content.encode("utf-8")
        nodes = _walk(self._parser_of(grammar), encoded, max_bytes)
        return nodes if len(encoded) == len(content) else _to_chars(content, nodes)

    def _parser_of(self, grammar: tuple[str, str]) -> Parser:
        if grammar not in self._parsers:
            package, function = grammar
            self._parsers[grammar] = Parser(Language(getattr(importlib.import_module(package), function)()))
        return self._parsers[grammar]


def _walk(parser: Parser, encoded: bytes, max_bytes: int) -> list[tuple[int, int]]:
    cursor = parser.parse(encoded).walk()
    nodes: dict[tuple[int, int], None] = {}  # a node and its only child are one span
    num_seen = 0
    goes_down = cursor.goto_first_child()
    while goes_down and num_seen < _MAX_NODES:
        num_seen += 1
        node = cursor.node
        assert node is not None  # noqa: S101 - a cursor stands on a node
        if node.is_named and not node.has_error and 1 < node.end_byte - node.start_byte <= max_bytes:
            nodes[(node.start_byte, node.end_byte)] = None
        goes_down = cursor.goto_first_child() or cursor.goto_next_sibling()
        while not goes_down and cursor.goto_parent():
            goes_down = cursor.goto_next_sibling()
    return list(nodes)


def _to_chars(content: str, nodes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of characters for spans of UTF-8 bytes."""
    places = {byte for span in nodes for byte in span}
    chars: dict[int, int] = {}
    byte = 0
    for place, char in enumerate(content):
        if byte in places:
            chars[byte] = place
        byte += len(char.encode("utf-8"))
    chars[byte] = len(content)
    return [(chars[begin], chars[end]) for begin, end in nodes if begin in chars and end in chars]
