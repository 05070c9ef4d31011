"""Finds entries that are written in another script than the rest: in data of one language, mostly rows nobody translated."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice

LATIN, JAPANESE = "LATIN", "JAPANESE"
_KANA = frozenset({"HIRAGANA", "KATAKANA"})
# One language mixes these.
_JAPANESE_LETTERS = frozenset({"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK", "FULLWIDTH", "HALFWIDTH"})
_MAX_LETTERS_READ = 2_000
# Names, commands and loan words are Latin in any language: a text is of another script from such a share of its letters on.
_MIN_OTHER_SHARE = 0.05
# Below it the data is of several languages by intent.
_MIN_MAIN_SHARE = 0.75
_MIN_LETTERS = 8


def name_script(text: str) -> str:
    """Return the script a text is written in, in Unicode's words; empty where there are too few letters to say."""
    counts = Counter(map(_name_letter, islice(filter(str.isalpha, text), _MAX_LETTERS_READ)))
    if counts.total() < _MIN_LETTERS:
        return ""
    other = Counter({script: count for script, count in counts.items() if script != LATIN})
    if other.total() < _MIN_OTHER_SHARE * counts.total():
        return LATIN
    return other.most_common(1)[0][0]


def is_japanese(text: str) -> bool:
    """Tell whether a text is Japanese, as far as its script says: it has kana, which no other language is written with.

    Latin names and numbers may be more than the rest; Chinese, which shares the other characters, has no kana.
    """
    return any(_name_script_of(char) in _KANA for char in islice(text, _MAX_LETTERS_READ))


class ScriptCount:
    """The scripts of entries, each of which is added once, in order, by its longest text."""

    def __init__(self) -> None:
        """Begin with none."""
        self._names: list[str] = []
        self._scripts = bytearray()

    def add(self, text: str) -> None:
        """Add the script of an entry."""
        script = name_script(text)
        if script not in self._names:
            self._names.append(script)  # Unicode has fewer than 256
        self._scripts.append(self._names.index(script))

    def find_others(self) -> Iterator[int]:
        """Yield the entries, from 0, that are of another script than most; none where there is no script that most are of."""
        known = Counter(number for number in self._scripts if self._names[number])
        if known:
            main, count = known.most_common(1)[0]
            if _MIN_MAIN_SHARE * known.total() <= count:
                yield from (entry for entry, number in enumerate(self._scripts) if number in known and number != main)


def _name_letter(char: str) -> str:
    if char.isascii():
        return LATIN
    script = _name_script_of(char)
    return JAPANESE if script in _JAPANESE_LETTERS else script


def _name_script_of(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]
