"""The one renderer: messages in, token ids out, the same for training and for serving.

The template is the base's pinned chat template, run in a sandbox with placeholders where the texts go; template pieces and texts are
then tokenised apart. So a user's text can never yield a special token, and the learned mask needs no guessing: it is the bot's own
text and the end-of-turn token behind it. What the base's tokenizer puts before any text stands before every conversation, whether its
template says so or not. Code completion has a renderer of its own, `fim.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from adaptory.core.digests import hash_text
from adaptory.core.errors import InvalidRequest
from adaptory.core.opening import find_opening
from adaptory.core.text_encoder import TextEncoder

Role = Literal["system", "user", "assistant"]

# Private-use characters: no template of the catalogue holds them, so a split at them finds exactly the texts.
_PLACEHOLDER = "\ue000{index}\ue001"
_PLACEHOLDER_PATTERN = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A training row: `ids` and, of the same length, `learned`, true where the loss counts the token as a target."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


class Renderer:
    """Renders conversations for one base model.

    Raises ValueError at construction when the tokenizer lacks the end-of-turn token.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, end_of_turn: str) -> None:
        """Compile the template; `end_of_turn` is the special token that closes the bot's turn and stops generation.

        The tokenizer is kept, and must not be changed afterwards.
        """
        end_id = tokenizer.token_to_id(end_of_turn)
        if end_id is None:
            message = f"the tokenizer has no token {end_of_turn!r}"
            raise ValueError(message)
        # Special tokens in the text of a user are then plain text; template pieces go through `_encode_template`.
        self._texts = TextEncoder(tokenizer, reserved=(end_of_turn,))
        self._pieces = tokenizer
        self._opening_ids = find_opening(tokenizer)
        # trim_blocks as transformers does it, so that published templates render as their authors meant.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        self._template = environment.from_string(template)
        self.end_of_turn_id: int = end_id
        self.template_digest = hash_text(template)

    @classmethod
    def from_files(cls, tokenizer_file: Path, template: str, end_of_turn: str) -> "Renderer":
        """Load `tokenizer.json`. Raises OSError or ValueError when it cannot be read."""
        return cls(Tokenizer.from_file(str(tokenizer_file)), template, end_of_turn)

    def render_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of the conversation with the opening of the bot's next turn behind it. Raises as `render_row`."""
        return self._render(messages, opens_reply=True).ids

    def render_row(self, messages: Sequence[Message]) -> RenderedRow:
        """Return a training row; every assistant turn and its end-of-turn token are learned.

        Up to each assistant turn its ids equal `render_prompt` of the turns before it. Raises InvalidRequest (TEMPLATE_REFUSES) where
        the base's template takes no such conversation; some want the user first.
        """
        return self._render(messages, opens_reply=False)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes by itself, without any template."""
        return len(self._encode_text(text))

    def _render(self, messages: Sequence[Message], *, opens_reply: bool) -> RenderedRow:
        placed = [
            {"role": turn.role, "content": _PLACEHOLDER.format(index=index)} for index, turn in enumerate(messages)
        ]
        text = self._fill_template(placed, opens_reply=opens_reply)
        ids: list[int] = []
        learned: list[bool] = []
        follows_reply = False
        # re.split with one group: template pieces at even places, indexes of messages at odd ones.
        for place, part in enumerate(_PLACEHOLDER_PATTERN.split(text)):
            if place % 2:
                turn = messages[int(part)]
                follows_reply = turn.role == "assistant"
                piece = self._encode_text(turn.content)
                mask = [follows_reply] * len(piece)
            else:
                piece = self._encode_template(part)
                mask = [follows_reply and index == 0 and piece[0] == self.end_of_turn_id for index in range(len(piece))]
                follows_reply = False
            ids += piece
            learned += mask
        if tuple(ids[: len(self._opening_ids)]) != self._opening_ids:
            ids, learned = [*self._opening_ids, *ids], [False] * len(self._opening_ids) + learned
        return RenderedRow(tuple(ids), tuple(learned))

    def _fill_template(self, turns: Sequence[Mapping[str, str]], *, opens_reply: bool) -> str:
        try:
            return self._template.render(messages=turns, add_generation_prompt=opens_reply)
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns[:3])
            message = (
                f"The base model's chat template takes no conversation that begins: {roles}. Some want the user first."
            )
            raise InvalidRequest(message, reason="TEMPLATE_REFUSES", metadata={"num_turns": len(turns)}) from error

    def _encode_text(self, text: str) -> list[int]:
        return self._texts.encode(text)

    def _encode_template(self, piece: str) -> list[int]:
        return self._pieces.encode(piece, add_special_tokens=False).ids


def check_conversation(messages: Sequence[Message], *, field: str) -> None:
    """Refuse a conversation no bot can answer: empty, out of turn, or not ending with the user. The bot may have spoken first.

    Raises InvalidRequest that names `field` and the turn.
    """
    turns = [turn for turn in messages if turn.role != "system"]
    if not turns:
        raise InvalidRequest.of_field(field, "has no user turn; give at least one", num_messages=len(messages))
    if any(turn.role == "system" for turn in messages[1:]):
        raise InvalidRequest.of_field(field, "has a system turn after the first message; move it to the front")
    for index, (before, turn) in enumerate(pairwise(turns), start=1):
        if turn.role == before.role:
            sentence = f"turn {index} is of the {turn.role} like the one before it, but turns must alternate"
            raise InvalidRequest.of_field(f"{field}[{index}].role", sentence, turn=index)
    if turns[-1].role != "user":
        raise InvalidRequest.of_field(field, "ends with the assistant; the last turn must be the user's")
