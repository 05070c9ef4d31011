"""Asks a question in another way, as people type: in fewer words, with a slip of the keys, behind a greeting.

For FAQ data that asks each thing in one way only, so that a bot can be judged by a wording it never saw while its facts are all
taught. What people would word otherwise is farther from the question than this: scores by these flatter, beside those by wordings of
the tenant's own.
"""

import re
from random import Random

from trainer_svc.bots.scripts import JAPANESE, LATIN, name_script

# What English questions can lose and still be understood; a question in another language has few of these words, and keeps its own.
_LIGHT_WORD = re.compile(
    r"a|about|am|an|and|are|be|been|being|can|could|did|do|does|for|have|how|i|if|in|is|it|me|my|of|on|or|our|please|shall|should|so|"
    r"some|that|the|their|them|there|these|they|this|those|to|us|was|we|were|what|which|will|with|would|you|your",
    re.IGNORECASE,
)
_MIN_KEPT_WORDS = 2
_GREETINGS = {
    LATIN: ("Hi, {}", "Hello! {}", "Quick question: {}", "{} Thanks!"),
    JAPANESE: ("すみません、{}", "こんにちは。{}", "質問です。{}", "{}よろしくお願いします。"),
}
# Where the language cannot be told.
_PAUSES = ("{} ?", "... {}")
_TYPO_SHARE, _MIN_TYPO_LETTERS = 0.5, 4
_ENDS = " ?!.;:？！。、"  # noqa: RUF001 - full width, as Japanese has them


def reword(question: str) -> str:
    """Return the question asked in another way, the same each time, and never as it stands."""
    chance = Random(question)  # noqa: S311 - to be repeatable, not secret
    typed = _shorten(question.rstrip(_ENDS) or question)
    if chance.random() < _TYPO_SHARE:
        typed = _mistype(typed, chance)
    greetings = _GREETINGS.get(name_script(question), _PAUSES)
    return chance.choice(greetings).format(typed.lower())


def _shorten(question: str) -> str:
    words = question.split()
    kept = [word for word in words if not _LIGHT_WORD.fullmatch(re.sub(r"\W", "", word))]
    return " ".join(kept if len(kept) >= _MIN_KEPT_WORDS else words)


def _mistype(text: str, chance: Random) -> str:
    """Swap two neighbouring letters inside one word: neither its first, by which it is read, nor in a name or a number."""
    words = list(re.finditer(rf"\b[a-z]{{{_MIN_TYPO_LETTERS},}}\b", text))
    if not words:
        return text
    word = chance.choice(words)
    place = chance.randrange(word.start() + 1, word.end() - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
