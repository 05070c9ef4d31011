"""Texts of entries: what one must be, how it is taken out of a parsed line, and when two of them are the same."""

import difflib
import unicodedata
from collections.abc import Collection, Mapping

from trainer_svc.bots.problem import LineProblem, ProblemSink

# `wording` for `wordings` and `anser` for `answer` are above it, `task` for `tags` is not.
_MISSPELT_RATIO = 0.8


def read_text(fields: Mapping[str, object], name: str, max_chars: int) -> str:
    """Return the text of a field. Raises LineProblem: FIELD_MISSING and what `check_text` raises."""
    if name not in fields:
        raise LineProblem("FIELD_MISSING", f"`{name}` is missing; give it a text")
    return check_text(fields[name], name, max_chars)


def read_texts(fields: Mapping[str, object], name: str, max_texts: int, max_chars: int) -> list[str]:
    """Return the texts of a field that may be left out. Raises LineProblem: TOO_MANY_TEXTS and what `check_text` raises."""
    texts = fields.get(name, [])
    if not isinstance(texts, list):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a list of texts")
    if len(texts) > max_texts:
        raise LineProblem("TOO_MANY_TEXTS", f"`{name}` has {len(texts)} texts; at most {max_texts} are taken")
    return [check_text(text, name, max_chars) for text in texts]


def check_text(value: object, name: str, max_chars: int) -> str:
    """Return a text without the space around it. Raises LineProblem: FIELD_TYPE, FIELD_EMPTY, TEXT_TOO_LONG, INVALID_TEXT."""
    if not isinstance(value, str):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a text")
    text = value.strip()
    if not text:
        raise LineProblem("FIELD_EMPTY", f"`{name}` is empty; give it a text or leave the line out")
    if len(text) > max_chars:
        raise LineProblem("TEXT_TOO_LONG", f"`{name}` has {len(text)} characters; at most {max_chars} are taken")
    if "\0" in text:
        raise LineProblem("INVALID_TEXT", f"`{name}` holds a NUL character; take it out")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise LineProblem("INVALID_TEXT", f"`{name}` holds half of a surrogate pair; write the character whole")
    return text


def fold_text(text: str) -> str:
    """Return a text so that what differs in case, spaces, or full and half width only becomes equal (Unicode NFKC, case folded)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class FieldRules:
    """Which fields a line may have. Others are left unread: data often carries an id or a topic, and a report says so once."""

    def __init__(self, known: Collection[str], problems: ProblemSink) -> None:
        """Take the names that are read, and where to tell of the first line with others."""
        self._known = tuple(known)
        self._problems = problems
        self._has_told = False

    def check(self, names: Collection[str], line: int) -> None:
        """Tell of unread fields once. Raises LineProblem (UNKNOWN_FIELD) where one is spelt almost like a field that is read."""
        unknown = [name for name in names if name not in self._known]
        for name in unknown:
            # Longer names are like none, and comparing them would take long.
            if len(name) < 2 * max(map(len, self._known)):
                for alike in difflib.get_close_matches(name.strip().lower(), self._known, n=1, cutoff=_MISSPELT_RATIO):
                    raise LineProblem("UNKNOWN_FIELD", f"a field is spelt almost like `{alike}`; write it exactly so")
        if unknown and not self._has_told:
            self._has_told = True
            sentence = f"{len(unknown)} fields of this line are not read, nor on any later one; read are {', '.join(self._known)}"
            self._problems.add_warning(line, "UNKNOWN_FIELD", sentence)
