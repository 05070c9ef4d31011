"""Small tokenizers with the control tokens of each FIM family, marked as the published ones mark them."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from adaptory.core.fim_families import FAMILIES

# Whose tokenizer.json calls its FIM tokens special; Qwen's and DeepSeek's are added tokens like any other.
_CALLED_SPECIAL = {"starcoder2", "codellama", "codestral"}
_SENTENCEPIECE = {"codellama", "codestral"}
END_OF_TURN = "<|im_end|>"


def make_tokenizer(family: str) -> Tokenizer:
    """Return a tokenizer of single characters, or of single bytes; an empty family has an end-of-turn token only."""
    tokenizer = _make_pieces() if family in _SENTENCEPIECE else _make_bytes()
    tokenizer.add_special_tokens([AddedToken(END_OF_TURN, special=True)])
    if family:
        is_special = family in _CALLED_SPECIAL
        tokens = (*FAMILIES[family].tokens, *FAMILIES[family].other_ends)
        tokenizer.add_tokens([AddedToken(token, special=is_special, normalized=False) for token in tokens])
    return tokenizer


def make_tokenizer_with_beginning() -> Tokenizer:
    """Return a tokenizer that itself puts a token before every text, as Gemma's does."""
    tokenizer = make_tokenizer("")
    tokenizer.add_special_tokens([AddedToken("<bos>", special=True)])
    beginning = tokenizer.token_to_id("<bos>")
    assert beginning is not None
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", beginning)]
    )
    return tokenizer


def _make_bytes() -> Tokenizer:
    tokenizer = Tokenizer(
        models.BPE({symbol: place for place, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _make_pieces() -> Tokenizer:
    """Return what SentencePiece makes: a space before every text, blanks as ▁, and bytes for what the vocabulary lacks."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "☺", "▁a"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: place for place, piece in enumerate(pieces)},
            [("▁", "a")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
