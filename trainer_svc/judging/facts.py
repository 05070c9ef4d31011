"""Facts of a reference, and whether an answer holds them: the tokens an answer cannot get right by sounding right.

A fact is a number (with its time, date or price written as one, such as 9:52 or 18.60), a code (letters with digits, or several
capitals, such as QX-41), an address of the net, or a name (a capitalised word that does not begin a sentence). What the prompt said
already is no fact. A script without spaces has numbers and words of Latin letters, which stand out in it; in a language that writes
its nouns with a capital, nouns count as names.
"""

import re
import unicodedata

# \u2019 is the typographic apostrophe.
_TOKEN = re.compile(r"[^\W_]+(?:[-.:/@'\u2019_&+][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?:;\u3002]['\")\]]*\s*$")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_MIN_CAPITALS = 2


def find_facts(reference: str, prompt: str = "") -> frozenset[str]:
    """Return the facts of a reference that its prompt does not give away, in lower case."""
    known = _list_words(prompt)
    text = _prepare(reference)
    return frozenset(
        token.group().casefold()
        for token in _TOKEN.finditer(text)
        if _is_fact(token.group(), text[: token.start()]) and token.group().casefold() not in known
    )


def holds_facts(answer: str, facts: frozenset[str]) -> bool:
    """Tell whether an answer holds every one of the facts, as whole tokens."""
    return facts <= _list_words(answer)


def _list_words(text: str) -> set[str]:
    return {token.casefold() for token in _TOKEN.findall(_prepare(text))}


def _prepare(text: str) -> str:
    """Set characters of scripts without spaces apart from what stands between them."""
    return _UNSPACED.sub(lambda found: f" {found.group()} ", unicodedata.normalize("NFKC", text))


def _is_fact(token: str, before: str) -> bool:
    if any(char.isdigit() for char in token) or "@" in token:
        return True
    if sum(char.isupper() for char in token) >= _MIN_CAPITALS:
        return True
    begins_sentence = not before.strip() or _SENTENCE_END.search(before) is not None
    stands_out = token.isascii() and _UNSPACED.search(before[-2:]) is not None
    return stands_out or (token[0].isupper() and not begins_sentence and len(token) > 1)
