"""The receipt of a rendering, on a tokenizer and template that are changed a little."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from adaptory.core.fim import FimRenderer
from adaptory.core.fim_families import TAUGHT
from adaptory.core.prompting import Renderer
from adaptory.core.receipt import sign_chat, sign_code

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE


def _tokenizer(*, ignore_merges: bool = False, spare: str = "") -> Tokenizer:
    """Return a byte-level tokenizer of two control tokens; `spare` takes the place of one byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: place for place, char in enumerate(alphabet)}
    if spare:
        vocabulary[alphabet[0]], vocabulary[spare] = vocabulary[spare], vocabulary[alphabet[0]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


def _sign(template: str = TEMPLATE, *, spare: str = "") -> tuple[str, ...]:
    return sign_chat(Renderer(_tokenizer(spare=spare), template, "<|im_end|>"))


def test_two_renderers_alike_have_one_receipt() -> None:
    """Eight digests, one a row, the same each time."""
    assert _sign() == _sign()
    assert len(set(_sign())) == 8


@pytest.mark.parametrize(
    ("template", "spare"), [(TEMPLATE.replace("\n{{", " {{"), ""), (TEMPLATE.replace("<|im_end|>\n", "<|im_end|>"), "")]
)
def test_another_template_shows_in_every_row(template: str, spare: str) -> None:
    """A space where a line's end was, or none behind the turn."""
    assert not set(_sign(template, spare=spare)) & set(_sign())


def test_another_token_for_one_letter_shows_where_the_letter_stands() -> None:
    """Two ids were changed for each other: rows with neither are as they were."""
    changed = [ours != theirs for ours, theirs in zip(_sign(), _sign(spare="W"), strict=True)]

    assert any(changed)
    assert not all(changed)


def test_a_template_that_takes_no_system_turn_has_a_receipt() -> None:
    """What it refuses is part of it."""
    assert len(_sign(NO_SYSTEM)) == 8


def test_completions_have_a_receipt_of_their_own() -> None:
    """Four cuts in two orders, of the taught form."""
    receipt = sign_code(FimRenderer(_tokenizer(), TAUGHT, "<|im_end|>"))

    assert len(receipt) == 8
    assert not set(receipt) & set(_sign())
