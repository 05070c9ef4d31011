"""The one renderer of code completion: prefix and suffix in, token ids out, the same for training and for serving.

What a family of bases was taught is in `fim_families.py`; how texts become ids without control tokens in `text_encoder.py`. Parts are
tokenised apart, so a row begins exactly with the prompt that serving makes of its prefix and suffix, wherever the cut fell.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from adaptory.core.digests import hash_text
from adaptory.core.fim_families import END_OF_TURN, FAMILIES, TAUGHT, FimFamily, Label, Order, Piece, Slot
from adaptory.core.opening import find_opening
from adaptory.core.prompting import RenderedRow
from adaptory.core.text_encoder import TextEncoder

# Of a context that does not fit, the suffix keeps this share: what stands before the cursor says more about what comes next.
SUFFIX_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class FimRow:
    """A file, or a window of one, cut in three; the parts joined are the text."""

    prefix: str
    middle: str
    suffix: str
    order: Order


@dataclass(frozen=True, slots=True)
class FimContext:
    """What is left of a prefix and a suffix that had to fit, and how many characters went from their far ends."""

    prefix: str
    suffix: str
    num_trimmed_prefix_chars: int = 0
    num_trimmed_suffix_chars: int = 0


class FimRenderer:
    """Renders completions for one base model.

    Raises ValueError at construction when the tokenizer lacks a token of the family.
    """

    def __init__(self, tokenizer: Tokenizer, family: FimFamily, end_of_turn: str) -> None:
        """Render as `family` was taught; `end_of_turn` is the base's, of which only the taught form makes use."""
        self._family = family
        self._tokenizer = tokenizer
        self._end_of_turn = end_of_turn
        named = [self._name(token) for token in family.tokens]
        if missing := [token for token in named if tokenizer.token_to_id(token) is None]:
            message = f"the tokenizer has no token {missing[0]!r}"
            raise ValueError(message)
        self._texts = TextEncoder(tokenizer, reserved=named)
        self._opening_ids = self._find_opening()
        self.end_id: int = self._id_of(family.end)
        others = (tokenizer.token_to_id(token) for token in (*family.other_ends, end_of_turn))
        self.stop_ids: tuple[int, ...] = tuple(sorted({self.end_id, *(id_ for id_ in others if id_ is not None)}))
        self.orders: tuple[Order, ...] = tuple(family.layouts)
        self.form_digest = _digest_form(family, end_of_turn)

    @classmethod
    def from_files(cls, tokenizer_file: Path, family: str, end_of_turn: str) -> "FimRenderer":
        """Load `tokenizer.json`; `family` is a name of FAMILIES, or empty for the taught form.

        Raises OSError or ValueError when the file cannot be read or does not go with the family.
        """
        found = find_family(family)
        return cls(Tokenizer.from_file(str(tokenizer_file)), found, end_of_turn)

    @property
    def served_order(self) -> Order:
        """The order of served prompts."""
        return self.orders[0]

    def render_prompt(self, prefix: str, suffix: str, order: Order | None = None) -> tuple[int, ...]:
        """Return the ids behind which comes what the prefix carries, then the middle; in the served order unless told another."""
        return tuple(id_ for id_, _ in self._render(prefix, suffix, order or self.served_order))

    def carry(self, prefix: str) -> str:
        """Return what of a prefix is left to the middle, as its family does."""
        return self._family.carry(prefix)

    def render_row(self, row: FimRow) -> RenderedRow:
        """Return a row to judge by: the prompt, and learned behind it the middle and the token that ends it."""
        prompt = self.render_prompt(row.prefix, row.suffix, row.order)
        middle = (*self._texts.encode_exactly(self.carry(row.prefix) + row.middle), self.end_id)
        return RenderedRow((*prompt, *middle), (False,) * len(prompt) + (True,) * len(middle))

    def render_lesson(self, row: FimRow) -> RenderedRow:
        """Return a row to train on: the same ids, of which all code is learned, and the token that ends the middle.

        What stands around a gap is the house's, too, and is read anyhow: learning it takes a quarter more work on a small base with a
        large vocabulary, and teaches many times the tokens (Bavarian et al. 2022 train on all of a row as well).
        """
        judged = self.render_row(row)
        prompt = [is_code for _, is_code in self._render(row.prefix, row.suffix, row.order)]
        return RenderedRow(judged.ids, (*prompt, *judged.learned[len(prompt) :]))

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes by itself."""
        return self._texts.count(text)

    def count_form_tokens(self) -> int:
        """Return the most tokens a row has beside its texts, the ending one included."""
        return 1 + max(len(self._render("", "", order)) for order in self.orders)

    def fit_context(self, prefix: str, suffix: str, max_tokens: int) -> FimContext:
        """Trim a context whose texts take more than `max_tokens` tokens, from the far ends: prefix's beginning, suffix's end.

        The suffix keeps a quarter, the prefix the rest; what one does not need the other gets. A cut falls on a line's end where one
        is near. The space that SentencePiece tokenizers put before a prefix is not counted: leave room for a token.
        """
        kept_suffix, num_suffix = self._texts.keep_beginning(suffix, int(SUFFIX_SHARE * max_tokens))
        kept_prefix, num_prefix = self._texts.keep_end(prefix, max_tokens - num_suffix)
        if kept_prefix == prefix and kept_suffix != suffix:
            kept_suffix, _ = self._texts.keep_beginning(suffix, max_tokens - num_prefix)
        return FimContext(kept_prefix, kept_suffix, len(prefix) - len(kept_prefix), len(suffix) - len(kept_suffix))

    def _render(self, prefix: str, suffix: str, order: Order) -> list[tuple[int, bool]]:
        """Return each id of a prompt, and whether it is of code."""
        prefix = prefix[: len(prefix) - len(self.carry(prefix))]
        rendered = [(id_, False) for id_ in self._opening_ids]
        for piece in self._family.layouts[order]:
            is_code = isinstance(piece, Slot)
            rendered += [(id_, is_code) for id_ in self._render_piece(piece, prefix, suffix)]
        return rendered

    def _render_piece(self, piece: Piece, prefix: str, suffix: str) -> list[int]:
        match piece:
            case Slot.PREFIX if self._family.has_spaced_prefix:
                return self._texts.encode(prefix)
            case Slot.PREFIX:
                return self._texts.encode_exactly(prefix)
            case Slot.SUFFIX:
                return self._texts.encode_exactly(suffix)
            case Label(text):
                return self._texts.encode_exactly(text)
            case str(token):
                return [self._id_of(token)]

    def _find_opening(self) -> list[int]:
        if self._family is not TAUGHT:
            return [self._id_of(self._family.opening)] if self._family.opening else []
        return list(find_opening(self._tokenizer))

    def _name(self, token: str) -> str:
        return self._end_of_turn if token == END_OF_TURN else token

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(self._name(token))
        if found is None:
            message = f"the tokenizer has no token {token!r}"
            raise ValueError(message)
        return found


def digest_form(family: str, end_of_turn: str) -> str:
    """Return the `form_digest` of a renderer of this family, without a tokenizer. Raises ValueError where there is no such family."""
    return _digest_form(find_family(family), end_of_turn)


def _digest_form(family: FimFamily, end_of_turn: str) -> str:
    """Return what tells two forms apart: a version is served with the form it was trained with."""
    layouts = [
        (order.value, [_describe(piece, end_of_turn) for piece in layout]) for order, layout in family.layouts.items()
    ]
    end = _describe(family.end, end_of_turn)
    return hash_text(json.dumps([layouts, end, family.opening, family.has_spaced_prefix, family.carries_space]))


def _describe(piece: Piece, end_of_turn: str) -> str:
    match piece:
        case Label(text):
            return f"text {text}"
        case Slot():
            return f"slot {piece.value}"
        case str(token):
            return f"token {end_of_turn if token == END_OF_TURN else token}"


def find_family(name: str) -> FimFamily:
    """Return the family of that name, for an empty one the taught form. Raises ValueError where there is none."""
    if name and name not in FAMILIES:
        message = f"there is no FIM family {name!r}; there are: {', '.join(sorted(FAMILIES))}"
        raise ValueError(message)
    return FAMILIES.get(name, TAUGHT)
