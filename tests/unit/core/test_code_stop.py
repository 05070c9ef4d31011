"""Where a completion ends, whatever pieces its text comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.code_stop import StopAt, make_stop


def cut(stop_at: StopAt, prefix: str, suffix: str, text: str, sizes: list[int] | None = None) -> str:
    """Return what is let through of a text that comes in pieces of these sizes."""
    stop, kept, place = make_stop(stop_at, prefix, suffix), "", 0
    for size in [*(sizes or []), len(text)]:
        kept += stop.take(text[place : place + size])
        place += size
        if stop.is_over:
            return kept
    return kept + stop.flush()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("return 1\nreturn 2\n", "return 1"),
        ("\n\n  return 1\nreturn 2", "\n\n  return 1"),
        ("return 1\r\nreturn 2", "return 1"),
        ("a\rb", "a\rb"),
        ("return 1", "return 1"),
        ("\n", "\n"),
        ("", ""),
    ],
)
def test_a_line_ends_before_its_end(text: str, kept: str) -> None:
    """The first line that is not blank is the completion; its line break is not."""
    assert cut(StopAt.LINE, "x", "", text) == kept


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "kept"),
    [
        # a body behind the line that opens it
        ("def f(x):", "", "\n    y = x\n\n    return y\n\nprint(f(1))\n", "\n    y = x\n\n    return y"),
        ("    if x:", "", "\n        a()\n    else:\n        b()\n", "\n        a()"),
        # the rest of a body, from an empty line in it
        ("def f(x):\n    ", "", "y = x\n    return y\n\ndef g():\n", "y = x\n    return y"),
        ("def f(x):\n\t", "", "y = x\n\tif y:\n\t\treturn y\nz", "y = x\n\tif y:\n\t\treturn y"),
        # brackets of the completion stay open until they close
        ("x = ", "", "call(\na,\nb,\n)\ny = 2\n", "call(\na,\nb,\n)"),
        ("x = ", "", "call(\"(\", '[')\ny = 2\n", "call(\"(\", '[')"),
        # a line that closes the cursor's bracket is the last one, unless it is in the suffix
        ("function f() {", "", "\n  return 1;\n}\nf();\n", "\n  return 1;\n}"),
        ("function f() {", "\n}\n", "\n  return 1;\n}\nf();\n", "\n  return 1;"),
        # nothing is indented less than the outermost level: a blank line ends it
        ("import a\n\n", "", "def f():\n    return 1\n\n\ndef g():\n", "def f():\n    return 1"),
        ("import a\n", "", "import b\nimport c\n\nx = 1\n", "import b\nimport c"),
        # the bot ends it first, and its last blanks are its own
        ("def f():", "", "\n    return 1\n", "\n    return 1\n"),
    ],
)
def test_a_block_ends_with_its_indentation(prefix: str, suffix: str, text: str, kept: str) -> None:
    """What is indented as the cursor's block is let through, and nothing behind it."""
    assert cut(StopAt.BLOCK, prefix, suffix, text) == kept


def test_to_the_end_everything_is_let_through() -> None:
    """Only the bot ends it."""
    assert cut(StopAt.END, "x", "", "a\n\nb\n") == "a\n\nb\n"


CODE = st.text(alphabet="ab (){}[]\"'\\\n\t\r:", max_size=60)


@given(st.sampled_from(StopAt), CODE, CODE, CODE, st.lists(st.integers(0, 9), max_size=20))
def test_pieces_do_not_matter(stop_at: StopAt, prefix: str, suffix: str, text: str, sizes: list[int]) -> None:
    """A stream is cut where the whole text would be, and what is let through is its beginning."""
    kept = cut(stop_at, prefix, suffix, text)

    assert cut(stop_at, prefix, suffix, text, sizes) == kept
    assert text.startswith(kept)
