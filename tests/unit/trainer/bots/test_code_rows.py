"""Rows cut from files: they join to the file's text, fit, and are the same every time."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptory.core.fim import FimRenderer, FimRow
from adaptory.core.fim_families import FAMILIES, TAUGHT, Order
from tests.tokenizers_of_families import END_OF_TURN, make_tokenizer
from trainer_svc.bots.code_file import CodeFile
from trainer_svc.bots.code_rows import CutSettings, RowCutter, make_code_rows
from trainer_svc.bots.grouped_split import hold_out
from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.bots.syntax import Grammars

RENDERER = FimRenderer(make_tokenizer(""), TAUGHT, END_OF_TURN)
CUT = CutSettings(max_row_tokens=200, max_middle_tokens=40, tokens_per_row=20)

PYTHON = '''"""Tells the weather."""


def tell(sky: str, *, degrees: int = 20) -> str:
    """Return a sentence."""
    if sky == "grey":
        return f"Rain at {degrees} degrees."
    return "Sun, naïve and ☀."
'''
SOURCES = {
    "a.py": PYTHON,
    "a.js": "function tell(sky) {\n  return sky === 'grey' ? 'rain' : 'sun';\n}\n",
    "a.ts": "function tell(sky: string): string {\n  return sky;\n}\n",
    "a.tsx": "const Sky = (p: {sky: string}) => <b>{p.sky}</b>;\n",
    "A.java": "class A {\n  int tell(int sky) {\n    return sky + 1;\n  }\n}\n",
    "a.go": "package a\n\nfunc Tell(sky int) int {\n\treturn sky + 1\n}\n",
    "a.rs": "fn tell(sky: i32) -> i32 {\n    sky + 1\n}\n",
    "a.c": "int tell(int sky) {\n  return sky + 1;\n}\n",
    "a.hpp": "template <class T> T tell(T sky) {\n  return sky + 1;\n}\n",
}


def cut(file: CodeFile, cut_settings: CutSettings = CUT, renderer: FimRenderer = RENDERER) -> list[FimRow]:
    """Return the rows of one file."""
    return list(RowCutter(renderer, cut_settings).cut(file))


@given(
    path=st.sampled_from(["a.py", "a.txt", "a.js"]), content=st.text(min_size=1, max_size=400), seed=st.integers(0, 99)
)
@settings(max_examples=60)
def test_rows_are_windows_of_their_file(path: str, content: str, seed: int) -> None:
    """The parts of a row, joined, stand in the file; the middle is not blank; the row is no longer than the longest."""
    rows = cut(CodeFile(path, content), CutSettings(200, 40, 20, seed))

    for row in rows:
        assert row.prefix + row.middle + row.suffix in content
        assert row.middle.strip()
        assert len(RENDERER.render_row(row).ids) <= 200


@pytest.mark.parametrize(("path", "content"), SOURCES.items())
def test_a_short_file_is_never_trimmed(path: str, content: str) -> None:
    """Where the whole file fits, prefix, middle and suffix are the whole file."""
    roomy = CutSettings(max_row_tokens=2_000, max_middle_tokens=40, tokens_per_row=20)

    rows = cut(CodeFile(path, content), roomy)

    assert rows
    assert {row.prefix + row.middle + row.suffix for row in rows} == {content}


def test_rows_are_the_same_every_time() -> None:
    """One seed and one file make one set of rows, whatever was cut before; another seed makes others."""
    cutter = RowCutter(RENDERER, CUT)
    list(cutter.cut(CodeFile("other.py", PYTHON + "x = 1\n")))

    again = list(cutter.cut(CodeFile("a.py", PYTHON)))

    assert again == cut(CodeFile("a.py", PYTHON))
    assert again != cut(CodeFile("a.py", PYTHON), CutSettings(200, 40, 20, seed=1))


def test_half_the_rows_are_in_either_order() -> None:
    """Prefix-suffix-middle and suffix-prefix-middle come equally often; a base that knows one gets that one."""
    file = CodeFile("a.py", PYTHON * 4)
    codestral = FimRenderer(make_tokenizer("codestral"), FAMILIES["codestral"], END_OF_TURN)

    orders = Counter(row.order for row in cut(file))

    assert abs(orders[Order.PSM] - orders[Order.SPM]) <= 1
    assert {row.order for row in cut(file, renderer=codestral)} == {Order.SPM}


def test_middles_are_characters_lines_and_nodes() -> None:
    """Of a file with a grammar some middles are whole nodes, some end with their line, and some end amid a word."""
    file = CodeFile("a.py", PYTHON * 6)
    nodes = {file.content[begin:end] for begin, end in Grammars().find_nodes(file.path, file.content, 240)}

    rows = cut(file)

    kinds = Counter(
        "node" if row.middle in nodes else "line" if row.suffix.startswith("\n") else "characters" for row in rows
    )
    assert set(kinds) == {"node", "line", "characters"}


@pytest.mark.parametrize(("path", "content"), SOURCES.items())
def test_each_language_has_its_grammar(path: str, content: str) -> None:
    """Nodes are whole: the body's expression is one of them, in every language."""
    expected = {"a.py": "Rain at {degrees} degrees.", "a.js": "'rain'", "a.ts": "return sky;", "a.tsx": "p.sky"}

    nodes = [content[begin:end] for begin, end in Grammars().find_nodes(path, content, 100)]

    assert any(expected.get(path, "sky + 1") in node for node in nodes)
    assert all(len(node.encode()) <= 100 for node in nodes)


def test_a_file_without_grammar_or_with_errors_is_cut_all_the_same() -> None:
    """Unknown languages and broken code fall back to lines and characters."""
    assert Grammars().find_nodes("a.cobol", "MOVE A TO B.\n", 100) == []
    assert cut(CodeFile("a.cobol", "MOVE A TO B.\n" * 5))
    assert cut(CodeFile("a.py", "def broken(:\n  )))\n" * 5))


def test_rows_too_short_for_a_middle_are_refused() -> None:
    """A longest row that leaves no room for context is named with what it would need."""
    with pytest.raises(ValueError, match=r"rows of 100 tokens leave \d+ for text; at least 80 are needed"):
        RowCutter(RENDERER, CutSettings(max_row_tokens=100, max_middle_tokens=40, tokens_per_row=20))


@given(content=st.text(min_size=1, max_size=400).filter(str.strip), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_judged_are_rests_of_lines(content: str, seed: int) -> None:
    """From some place behind a line's indentation to its end, in the served order, no longer than the longest middle."""
    rows = list(RowCutter(RENDERER, CutSettings(200, 40, 20, seed)).ask(CodeFile("a.py", content)))

    assert rows
    assert {row.order for row in rows} == {RENDERER.served_order}
    for row in rows:
        assert row.prefix + row.middle + row.suffix in content
        assert row.middle.strip()
        assert "\n" not in row.middle
        assert not row.suffix.partition("\n")[0].strip()
        assert RENDERER.count_tokens(row.middle) <= 40


def test_some_lines_are_judged_whole_and_some_from_their_midst() -> None:
    """A cursor stands behind the indentation, or somewhere in the line."""
    lines = {line.strip() for line in PYTHON.splitlines()}
    rows = RowCutter(RENDERER, CutSettings(200, 40, 4)).ask(CodeFile("a.py", PYTHON))

    assert {row.middle in lines for row in rows} == {True, False}


def test_a_file_is_on_one_side_as_a_whole() -> None:
    """Every row of a file that is held out is held out, and no other row."""
    files = [CodeFile(f"{name}.py", PYTHON.replace("sky", name)) for name in ("sun", "sea", "wind")]

    rows = list(make_code_rows(files, HeldOut(frozenset({(1, 0)})), RowCutter(RENDERER, CUT)))

    assert all(("sea" in row.row.prefix + row.row.middle + row.row.suffix) == row.is_held_out for row in rows)
    assert {row.is_held_out for row in rows} == {True, False}


def test_files_nearly_the_same_are_on_the_same_side() -> None:
    """A copy with another header would show what is held out."""
    texts = [
        json.dumps([number * 7919 % 1009 for number in range(start, start + 300)], indent=1)
        for start in range(0, 6_000, 300)
    ]
    files = [
        CodeFile(f"{number}.py", f"{'# old' * copy}\n{text}") for number, text in enumerate(texts) for copy in (0, 1)
    ]
    index = RowIndex()
    for file in files:
        index.add(file)

    held_out = {place for place, _ in hold_out(index, share=0.3, seed=0).rows}

    assert 0 < len(held_out) <= 12
    assert all((place ^ 1) in held_out for place in held_out)
