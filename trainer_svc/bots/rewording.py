"""Asks a question in other ways, as people type: in another form, in fewer words, with a slip of the keys, behind a greeting.

For FAQ data that asks each thing in one way only: `list_rewordings` are learned beside the question, and `reword` is a way that is
not among them, so that a bot can be judged by a wording it never saw while its facts are all taught. What people would word otherwise
is farther from the question than either: scores by these flatter, beside those by wordings of the tenant's own.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from trainer_svc.bots.scripts import JAPANESE, LATIN, name_script

ENGLISH = "ENGLISH"
# What English questions can lose and still be understood.
_LIGHT_WORD = re.compile(
    r"a|about|am|an|and|are|be|been|being|can|could|did|do|does|for|have|how|i|if|in|is|it|me|my|of|on|or|our|please|shall|should|so|"
    r"some|that|the|their|them|there|these|they|this|those|to|us|was|we|were|what|which|will|with|would|you|your",
    re.IGNORECASE,
)
_MIN_KEPT_WORDS = 2
_GREETINGS = {
    ENGLISH: ("Hi, {}", "Hello! {}", "Quick question: {}", "{} Thanks!"),
    JAPANESE: ("すみません、{}", "こんにちは。{}", "質問です。{}", "{}よろしくお願いします。"),
}
# Where the rules do not know the language.
_PAUSES = ("{} ?", "... {}")
_TYPO_SHARE, _MIN_TYPO_LETTERS = 0.5, 4
_ENDS = " ?!.;:？！。、"  # noqa: RUF001 - full width, as Japanese has them

# None of them is a word of another language in this script, as "in" and "was" are.
_ENGLISH = re.compile(
    r"\b(?:the|this|how|what|when|where|which|who|why|do|does|are|can|you|your|my|have|there)\b", re.IGNORECASE
)

# Other forms of what a question begins with in English, and ends with in Japanese; the first that fits is taken.
_FORMS = {
    ENGLISH: (
        (
            r"how (?:do|can|could|should|would) (?:i|we|you) (.+)",
            ("what is the way to {}", "I want to {}", "help me to {}"),
        ),
        (
            r"(?:can|could|may|should) (?:i|we|you) (.+)",
            ("is it possible to {}", "I would like to {}", "{}, does that go"),
        ),
        (r"(?:is|are) there (?:an? |any )?(.+)", ("do you have {}", "I am looking for {}", "{}, is there such")),
        (r"what(?:'s| is| are| was| were) (.+)", ("tell me about {}", "explain {}", "{}, what is that")),
        (r"where (?:is|are|can i find|do i find) (.+)", ("how do I find {}", "which way to {}", "{}, in what place")),
        (r"(?:when|at what time) (?:is|are|does|do|can) (.+)", ("what time {}", "the hours of {}", "{}, from when")),
        (r"why (.+)", ("what is the reason that {}", "how come {}", "{}, and why is that")),
        (r"(?:do|does|did) (.+)", ("I wonder whether {}", "{}, yes or no", "tell me if {}")),
    ),
    JAPANESE: (
        (
            r"(.+?)(?:とは|って|は)(?:何|なん)(?:です|でしょう)?か?",
            ("{}について", "{}の意味を知りたいです", "{}って何のこと"),
        ),
        (r"(.+(?:ます|です|でしょう))か", ("{}か教えてください", "{}かを知りたいのですが", "{}かね")),
        (r"(.+?)は", ("{}を知りたいです", "{}について", "{}がわかりません")),
    ),
}
_FRAMES = {
    ENGLISH: ("{}", "{}?", "I have a question, {}", "could you tell me: {}?", "{} please"),
    JAPANESE: ("{}", "{}？", "{}。", "ちょっと聞きたいのですが、{}", "お願いします。{}"),  # noqa: RUF001
}
_PLAIN_FRAMES = ("{}", "{}?", "{} ?", "... {}")
_PARTICLE = re.compile(
    r"(?<=[\u30a0-\u30ff\u4e00-\u9fffA-Za-z0-9])[はがをにの](?=[\u30a0-\u30ff\u4e00-\u9fffA-Za-z0-9])"
)
_FORM_SHARE, _LOSS_SHARE, _LEARNED_TYPO_SHARE, _MIN_WORDS_TO_LOSE = 0.6, 0.4, 0.25, 4
_MAX_TRIES = 20

_Form = tuple[str, tuple[str, ...]]  # what it looks like, and what it may become


def reword(question: str) -> str:
    """Return the question asked in another way, the same each time, and never as it stands."""
    chance = Random(question)  # noqa: S311 - to be repeatable, not secret
    language = _name_language(question)
    typed = question.rstrip(_ENDS) or question
    if language == ENGLISH:
        typed = _shorten(typed)
    if chance.random() < _TYPO_SHARE:
        typed = _mistype(typed, chance)
    greetings = _GREETINGS.get(language, _PAUSES)
    return chance.choice(greetings).format(typed.lower())


def list_rewordings(question: str, count: int) -> list[str]:
    """Return as many other ways to ask the question, the same each time; fewer where rules make fewer, as of a question of one word.

    Neither the question as it stands nor `reword(question)` is among them.
    """
    chance = Random(f"learned {question}")  # noqa: S311 - to be repeatable, not secret
    known = {question, reword(question)}
    made = dict.fromkeys(way for way in _make_ways(question, chance) if way not in known)
    return list(islice(made, count))


def _make_ways(question: str, chance: Random) -> Iterator[str]:
    language = _name_language(question)
    frames, forms = _FRAMES.get(language, _PLAIN_FRAMES), _FORMS.get(language, ())
    lose = _LOSSES.get(language, _lose_any_word)
    asked = question.strip(_ENDS) or question
    found = _find_form(asked, forms)
    for _ in range(_MAX_TRIES):
        kept, form = asked, "{}"
        if found and chance.random() < _FORM_SHARE:
            kept, form = found[0], chance.choice(found[1])
        yield chance.choice(frames).replace("{}", form).replace("{}", lose(kept, chance))


def _name_language(question: str) -> str:
    """Return a language that the rules know, or the script."""
    script = name_script(question)
    return ENGLISH if script in {LATIN, ""} and _ENGLISH.search(question) else script


def _find_form(asked: str, forms: Iterable[_Form]) -> tuple[str, tuple[str, ...]] | None:
    """Return what a question asks about, and the forms it can be asked in."""
    for pattern, others in forms:
        if found := re.fullmatch(pattern, asked, re.IGNORECASE | re.DOTALL):
            return found[1], others
    return None


def _lose_particles(asked: str, chance: Random) -> str:
    """Leave out Japanese particles, as in a search, each by a chance that differs from call to call."""
    share = chance.random()
    return _PARTICLE.sub(lambda found: "" if chance.random() < share else found[0], asked)


def _lose_words(asked: str, chance: Random) -> str:
    """Leave out English words that say little, each by a chance that differs from call to call, and go on as in any language."""
    share = chance.random()
    kept = [word for word in asked.split() if not _LIGHT_WORD.fullmatch(word) or chance.random() >= share]
    return _lose_any_word(" ".join(kept) or asked, chance)


def _lose_any_word(asked: str, chance: Random) -> str:
    """Leave out a word now and then, no name or number, and slip now and then."""
    words = asked.split()
    others = [place for place, word in enumerate(words) if word.islower() and not _LIGHT_WORD.fullmatch(word)]
    if len(words) > _MIN_WORDS_TO_LOSE and others and chance.random() < _LOSS_SHARE:
        del words[chance.choice(others)]
    kept = " ".join(words)
    return _mistype(kept, chance) if chance.random() < _LEARNED_TYPO_SHARE else kept


_LOSSES = {ENGLISH: _lose_words, JAPANESE: _lose_particles}


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
