"""Style rules: what a tenant wants each reply to be like, declared with the bot and checked word by word.

Owns the rules and whether one reply keeps them; a rule that is not declared is not checked. In scripts without spaces, such as
Japanese, a word counts wherever it stands in a reply.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer_svc.judging.text import is_unspaced


@dataclass(frozen=True, slots=True)
class StyleRules:
    """The rules of one bot. Texts are compared whatever their case; an empty tuple or a 0 is no rule.

    The first reply of a conversation begins with one of `greetings`; every reply ends with one of `closings`, uses one of
    `forms_of_address` as a word of its own, has none of `forbidden_words`, and is `min_chars` to `max_chars` characters long.
    """

    greetings: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()
    forms_of_address: tuple[str, ...] = ()
    forbidden_words: tuple[str, ...] = ()
    min_chars: int = 0
    max_chars: int = 0


def check_style(reply: str, rules: StyleRules, *, is_first: bool) -> dict[str, bool]:
    """Return for each rule that concerns the reply, by its name, whether it is kept."""
    return dict(_check(" ".join(reply.split()), rules, is_first=is_first))


def _check(reply: str, rules: StyleRules, *, is_first: bool) -> Iterator[tuple[str, bool]]:
    plain = reply.casefold()
    if rules.greetings and is_first:
        yield "greeting", plain.startswith(tuple(_fold(text) for text in rules.greetings))
    if rules.closings:
        yield "closing", plain.endswith(tuple(_fold(text) for text in rules.closings))
    if rules.forms_of_address:
        yield "form_of_address", any(_has_word(plain, _fold(form)) for form in rules.forms_of_address)
    if rules.forbidden_words:
        yield "forbidden_words", not any(_has_word(plain, _fold(word)) for word in rules.forbidden_words)
    if rules.min_chars or rules.max_chars:
        yield "length", rules.min_chars <= len(reply) <= (rules.max_chars or len(reply))


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _has_word(plain: str, word: str) -> bool:
    # Where a script has no spaces, nothing around a word tells that it is one.
    begin = "" if is_unspaced(word[:1]) else r"(?<!\w)"
    end = "" if is_unspaced(word[-1:]) else r"(?!\w)"
    return re.search(f"{begin}{re.escape(word)}{end}", plain) is not None
