"""Tokenises texts of users: whatever they spell, no control token comes of it.

A tokenizer's own switch leaves out only the tokens it calls special, and published tokenizers have control tokens which they do not
call so: the FIM tokens of Qwen2.5-Coder and DeepSeek-Coder are plain added tokens, those of CodeLlama may be pieces of the
vocabulary. So every added token that looks like one, and every token its caller reserves, is made special first, and what comes out
is looked at again.
"""

import re
from collections.abc import Collection

from tokenizers import AddedToken, Encoding, Tokenizer

# Added tokens without such a form are ordinary characters, as DeepSeek-Coder's "õ", or runs of blanks: texts may yield them.
_CONTROL_FORM = re.compile(r"▁?(<.+>|\[[A-Z_]+\])", re.DOTALL)
# A character no tokenizer joins with its neighbours; Meta's CodeLlama uses it for the same end (`encode_infilling`).
_ANCHOR = "☺"
# Texts far beyond a budget are cut before they are tokenised, to so many characters for each token of it: code has 3 to 4. Only where
# that does not fill the budget, in code with wide blanks, more is looked at.
_CHARS_PER_TOKEN = (4, 8, 64)


class TextEncoder:
    """Encodes texts with one tokenizer, and never to one of its control tokens."""

    def __init__(self, tokenizer: Tokenizer, *, reserved: Collection[str] = ()) -> None:
        """Take a copy of the tokenizer; `reserved` are tokens which no text may yield either."""
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        added = self._tokenizer.get_added_tokens_decoder()
        control = {token.content for token in added.values() if token.special or _CONTROL_FORM.fullmatch(token.content)}
        control |= {token for token in reserved if tokenizer.token_to_id(token) is not None}
        self._tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
        self._tokenizer.encode_special_tokens = True
        found = (self._tokenizer.token_to_id(text) for text in control if len(text) > 1)
        self.control_ids: frozenset[int] = frozenset(id_ for id_ in found if id_ is not None)
        first = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._adds_space = bool(first) and first[0].startswith("▁")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text as the tokenizer makes them, with the space some tokenizers put before it."""
        return self._without_control(text, self._encode(text))

    def encode_exactly(self, text: str) -> list[int]:
        """Return the ids of a text that stands amid others: without a space the text does not have."""
        if not self._adds_space:
            return self.encode(text)
        encoding = self._encode(_ANCHOR + text)
        num_anchor = next(
            (place for place, (begin, _) in enumerate(encoding.offsets) if begin >= len(_ANCHOR)), len(encoding.ids)
        )
        if self.control_ids.isdisjoint(encoding.ids):
            return encoding.ids[num_anchor:]
        return self._without_control(text, self._encode(text))

    def keep_end(self, text: str, max_tokens: int) -> tuple[str, int]:
        """Return the end of a text that takes at most so many tokens, and how many; from a line's beginning where one is near."""
        for ratio in _CHARS_PER_TOKEN:
            near = text[max(0, len(text) - ratio * max_tokens) :]
            num_tokens = self.count(near)
            if near == text or num_tokens > max_tokens:
                break
        while (excess := num_tokens - max_tokens) > 0:
            offsets = self._encode(near).offsets
            cut = offsets[excess][0] if excess < len(offsets) else len(near)
            near = near[_move_to_line(near, max(cut, 1)) :]
            num_tokens = self.count(near)
        return near, num_tokens

    def keep_beginning(self, text: str, max_tokens: int) -> tuple[str, int]:
        """Return the beginning of a text that takes at most so many tokens, and how many; up to a line's end where one is near."""
        for ratio in _CHARS_PER_TOKEN:
            near = text[: ratio * max_tokens]
            num_tokens = self.count(near)
            if near == text or num_tokens > max_tokens:
                break
        while (excess := num_tokens - max_tokens) > 0:
            offsets = self._encode(near).offsets
            cut = min(offsets[-min(excess, len(offsets))][0], len(near) - 1)
            line = near.rfind("\n", cut // 2, cut) + 1
            near = near[: line or cut]
            num_tokens = self.count(near)
        return near, num_tokens

    def count(self, text: str) -> int:
        """Return how many ids `encode_exactly` gives."""
        return len(self.encode_exactly(text))

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _without_control(self, text: str, encoding: Encoding) -> list[int]:
        """Return the ids, with the text cut inside whatever made a control token: two halves of one are none."""
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        place = next((begin + 1 for token, (begin, _) in pairs if token in self.control_ids), None)
        if place is None:
            return encoding.ids
        return self.encode(text[:place]) + self.encode_exactly(text[place:])


def _move_to_line(text: str, cut: int) -> int:
    """Return the next beginning of a line behind `cut`, unless half of what would be kept goes with it."""
    line = text.find("\n", cut - 1, cut + (len(text) - cut) // 2)
    return line + 1 if line >= 0 else cut
