"""The renderer of code completion, on small tokenizers with the control tokens of each family."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from adaptory.core.fim import FimRenderer, FimRow, digest_form
from adaptory.core.fim_families import FAMILIES, TAUGHT, Order
from tests.tokenizers_of_families import END_OF_TURN, make_tokenizer, make_tokenizer_with_beginning

SENTENCEPIECE = {"codellama", "codestral"}
LETTER = "x"
NAMES = ["", *sorted(FAMILIES)]
ORDERS = [(name, order) for name in NAMES for order in FAMILIES.get(name, TAUGHT).layouts]
# What a hostile file may hold: every control token there is, the words of the taught form, halves of either.
MARKERS = [END_OF_TURN, "suffix\n", "prefix\n", "middle\n", "<bos>", *(t for f in FAMILIES.values() for t in f.tokens)]
TEXTS = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(MARKERS)), max_size=5).map("".join)

TOKENIZERS = {name: make_tokenizer(name) for name in NAMES}
RENDERERS = {name: FimRenderer(TOKENIZERS[name], FAMILIES.get(name, TAUGHT), END_OF_TURN) for name in NAMES}


def _spell(name: str, ids: tuple[int, ...]) -> list[str]:
    return [str(TOKENIZERS[name].id_to_token(token)) for token in ids]


@pytest.mark.parametrize(
    ("name", "order", "expected"),
    [
        ("qwen2.5-coder", Order.PSM, "<|fim_prefix|> p <|fim_suffix|> s <|fim_middle|> m <|endoftext|>"),
        ("qwen2.5-coder", Order.SPM, "<|fim_prefix|> <|fim_suffix|> s <|fim_middle|> p m <|endoftext|>"),
        ("starcoder2", Order.PSM, "<file_sep> <fim_prefix> p <fim_suffix> s <fim_middle> m <|endoftext|>"),
        ("starcoder2", Order.SPM, "<file_sep> <fim_prefix> <fim_suffix> s <fim_middle> p m <|endoftext|>"),
        ("codellama", Order.PSM, "<s> ▁<PRE> ▁ p ▁<SUF> s ▁<MID> m ▁<EOT>"),
        ("codellama", Order.SPM, "<s> ▁<PRE> ▁<SUF> s ▁<MID> ▁ p m ▁<EOT>"),
        (
            "deepseek-coder",
            Order.PSM,
            "<｜begin▁of▁sentence｜> <｜fim▁begin｜> p <｜fim▁hole｜> s <｜fim▁end｜> m <｜end▁of▁sentence｜>",
        ),
        ("codestral", Order.SPM, "<s> [SUFFIX] s [PREFIX] ▁ p m </s>"),
        ("", Order.SPM, "s u f f i x Ċ s <|im_end|> p r e f i x Ċ p m <|im_end|>"),
        ("", Order.PSM, "p r e f i x Ċ p <|im_end|> s u f f i x Ċ s <|im_end|> m i d d l e Ċ m <|im_end|>"),
    ],
)
def test_each_family_is_rendered_as_it_was_published(name: str, order: Order, expected: str) -> None:
    """A row has the tokens of the family's own format, in its order, with spaces only where its tokenizer put them in training."""
    row = RENDERERS[name].render_row(FimRow("p", "m", "s", order))

    assert " ".join(_spell(name, row.ids)) == expected


@pytest.mark.parametrize(("name", "order"), ORDERS)
@given(prefix=TEXTS, middle=TEXTS, suffix=TEXTS)
def test_only_the_layout_makes_control_tokens(name: str, order: Order, prefix: str, middle: str, suffix: str) -> None:
    """Whatever the file spells, a row holds the control tokens of an empty one, and no more."""
    renderer, empty = RENDERERS[name], RENDERERS[name].render_row(FimRow("", "", "", order))
    control = {TOKENIZERS[name].token_to_id(token) for token in MARKERS} - {None}

    row = renderer.render_row(FimRow(prefix, middle, suffix, order))

    assert [token for token in row.ids if token in control] == [token for token in empty.ids if token in control]


@pytest.mark.parametrize(("name", "order"), ORDERS)
@given(prefix=TEXTS, middle=TEXTS, suffix=TEXTS)
def test_a_row_begins_with_its_prompt_and_learns_the_rest(
    name: str, order: Order, prefix: str, middle: str, suffix: str
) -> None:
    """The loss covers the middle and the ending token; what comes before is the served prompt, token for token."""
    renderer = RENDERERS[name]

    prompt = renderer.render_prompt(prefix, suffix, order)
    row = renderer.render_row(FimRow(prefix, middle, suffix, order))

    assert row.ids[: len(prompt)] == prompt
    assert row.learned == (False,) * len(prompt) + (True,) * (len(row.ids) - len(prompt))
    num_learned = renderer.count_tokens(renderer.carry(prefix) + middle) + 1
    assert (row.ids[-1], len(row.ids) - len(prompt)) == (renderer.end_id, num_learned)


@pytest.mark.parametrize("name", NAMES)
@given(prefix=TEXTS, middle=TEXTS, suffix=TEXTS)
def test_the_learned_ids_spell_the_middle(name: str, prefix: str, middle: str, suffix: str) -> None:
    """Behind its prompt a middle decodes to its own text, without a space more or less."""
    renderer = RENDERERS[name]
    row = renderer.render_row(FimRow(prefix, middle, suffix, renderer.served_order))
    num_prompt = len(renderer.render_prompt(prefix, suffix))
    # SentencePiece reads its own sign for a blank as a blank, wherever it stands.
    assume(name not in SENTENCEPIECE or "▁" not in middle)

    text = TOKENIZERS[name].decode(
        [TOKENIZERS[name].encode(LETTER).ids[-1], *row.ids[num_prompt:-1]], skip_special_tokens=False
    )

    assert text[1:] == renderer.carry(prefix) + middle


def test_a_taught_base_is_not_cut_behind_a_space() -> None:
    """The last space before the cursor is left to the answer; other forms, which were cut anywhere, are asked as it stands."""
    taught, known = RENDERERS[""], RENDERERS["qwen2.5-coder"]

    assert taught.render_prompt("x = ", "") == taught.render_prompt("x =", "")
    assert known.render_prompt("x = ", "") != known.render_prompt("x =", "")
    assert [taught.carry(prefix) for prefix in ("x = ", "x =", "x\n", "")] == [" ", "", "", ""]
    assert known.carry("x = ") == ""


def test_what_a_tokenizer_puts_before_every_text_comes_first() -> None:
    """A base without FIM tokens that was trained behind a beginning token gets it in the taught form, too."""
    tokenizer = make_tokenizer_with_beginning()

    prompt = FimRenderer(tokenizer, TAUGHT, END_OF_TURN).render_prompt("p", "s")

    assert prompt[0] == tokenizer.token_to_id("<bos>")
    assert prompt.count(prompt[0]) == 1


@pytest.mark.parametrize(("name", "order"), ORDERS)
@given(prefix=TEXTS, middle=TEXTS, suffix=TEXTS)
def test_a_lesson_learns_all_code_and_nothing_of_the_form(
    name: str, order: Order, prefix: str, middle: str, suffix: str
) -> None:
    """Its ids are those it is judged by; unlearned are as many as a row without code has, but for the token that ends it."""
    renderer, row = RENDERERS[name], FimRow(prefix, middle, suffix, order)
    lesson, judged = renderer.render_lesson(row), renderer.render_row(row)
    empty = renderer.render_lesson(FimRow("", "", "", order))

    assert lesson.ids == judged.ids
    assert all(learned for learned, is_middle in zip(lesson.learned, judged.learned, strict=True) if is_middle)
    assert lesson.learned.count(False) == empty.learned.count(False)


@pytest.mark.parametrize("name", NAMES)
@given(prefix=st.text(max_size=120), suffix=st.text(max_size=120), max_tokens=st.integers(0, 80))
def test_a_trimmed_context_fits_and_keeps_what_is_near(name: str, prefix: str, suffix: str, max_tokens: int) -> None:
    """What is left stands next to the cursor, fits, and what went is counted; a context that fits loses nothing."""
    renderer = RENDERERS[name]

    context = renderer.fit_context(prefix, suffix, max_tokens)

    assert renderer.count_tokens(context.prefix) + renderer.count_tokens(context.suffix) <= max_tokens
    assert prefix[context.num_trimmed_prefix_chars :] == context.prefix
    assert suffix[: len(suffix) - context.num_trimmed_suffix_chars] == context.suffix
    if renderer.count_tokens(prefix) + renderer.count_tokens(suffix) <= max_tokens:
        assert (context.prefix, context.suffix) == (prefix, suffix)


def test_a_trimmed_context_begins_and_ends_with_a_line() -> None:
    """Of a long file the kept lines are whole: three quarters of the room before the cursor, a quarter behind it."""
    lines = "".join(f"line {number:03d}\n" for number in range(100))

    context = RENDERERS[""].fit_context(lines, lines, 400)

    assert context.prefix.startswith("line ")
    assert context.suffix.endswith("\n")
    assert (len(context.prefix), len(context.suffix)) == (297, 99)


def test_a_tokenizer_without_the_familys_tokens_is_refused(tmp_path: Path) -> None:
    """A base named with a family it is not of cannot be rendered for, and neither can a family nobody knows."""
    file = tmp_path / "tokenizer.json"
    make_tokenizer("").save(str(file))

    with pytest.raises(ValueError, match=r"no token '<\|fim_prefix\|>'"):
        FimRenderer.from_files(file, "qwen2.5-coder", END_OF_TURN)
    with pytest.raises(ValueError, match=r"no FIM family 'gpt-5'; there are: codellama, codestral"):
        FimRenderer.from_files(file, "gpt-5", END_OF_TURN)


def test_generation_ends_where_the_base_would_begin_something_else() -> None:
    """The end of a middle stops generation, and so do the tokens of another file or another gap."""
    stops = {TOKENIZERS["starcoder2"].id_to_token(token) for token in RENDERERS["starcoder2"].stop_ids}

    assert {"<|endoftext|>", "<file_sep>", "<fim_prefix>"} <= stops


def test_forms_differ_in_their_digests() -> None:
    """A version made with one form is told from one made with another."""
    digests = {renderer.form_digest for renderer in RENDERERS.values()}

    assert len(digests) == len(NAMES)
    assert {digest_form(name, END_OF_TURN) for name in NAMES} == digests
    assert digest_form("", "</s>") not in digests
    assert FimRenderer(Tokenizer.from_str(TOKENIZERS[""].to_str()), TAUGHT, END_OF_TURN).form_digest in digests
