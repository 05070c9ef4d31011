"""How texts are made comparable before they are scored."""

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)
# Scripts written without spaces: each character is a token of its own (as in MLQA, Lewis et al. 2020).
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def normalise(text: str) -> str:
    """Return text as SQuAD's evaluation compares it (Rajpurkar et al. 2016): lower case, no punctuation, no articles, single spaces.

    Compatibility forms, such as full-width digits, become their plain characters first (NFKC).
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(char for char in lowered if char not in _PUNCTUATION and not _is_punctuation(char))
    return " ".join(_ARTICLES.sub(" ", plain).split())


def split_tokens(text: str) -> list[str]:
    """Return the tokens of a normalised text: words, and single characters where a script has no spaces."""
    return _UNSPACED.sub(lambda found: f" {found.group()} ", normalise(text)).split()


def is_unspaced(text: str) -> bool:
    """Tell whether a text has characters of a script that is written without spaces."""
    return _UNSPACED.search(text) is not None


def _is_punctuation(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char).startswith("P")
