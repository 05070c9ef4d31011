"""How each family of code bases was taught to fill in the middle: its tokens, their order, and where a middle ends.

A layout is what stands before the middle, piece by piece; behind the middle comes `end`. PSM is prefix, suffix, middle; SPM is
suffix, prefix, middle, in the form of Bavarian et al. 2022 (arXiv 2207.14255, section 3, variant 2), which CodeLlama and StarCoder
were trained with: PRE SUF suffix MID prefix, the middle right behind the prefix.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Order(enum.StrEnum):
    """In which order the parts of a file are read."""

    PSM = "PSM"
    SPM = "SPM"


class Slot(enum.Enum):
    """Where a part of the file goes."""

    PREFIX = "prefix"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True)
class Label:
    """Plain text of the layout itself, tokenised apart from everything around it."""

    text: str


Piece = str | Label | Slot
"""A token by its name, plain text, or a part of the file."""

_SPACE = " "
END_OF_TURN = "<end of turn>"
"""Stands for whichever special token ends a turn of the base; no tokenizer needs to know this name."""


@dataclass(frozen=True, slots=True)
class FimFamily:
    """One way to ask for a middle.

    The first of `layouts` is the one that is served. `end` closes every middle and is learned; generation ends at `other_ends`, too,
    which a base may write where another file or another gap would begin. `opening` is a token before everything, where the base was
    trained with one. `has_spaced_prefix`: a SentencePiece tokenizer put its space before the prefix in training, though not before
    the other parts. `carries_space`: a prefix that ends with a space leaves it to the middle, which answers then begin with.
    """

    layouts: Mapping[Order, tuple[Piece, ...]]
    end: str
    other_ends: tuple[str, ...] = ()
    opening: str = ""
    has_spaced_prefix: bool = False
    carries_space: bool = False

    def carry(self, prefix: str) -> str:
        """Return what of a prefix is left to the middle: its last space, where the form is so, or nothing."""
        return _SPACE if self.carries_space and prefix.endswith(_SPACE) else ""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token that must be in the tokenizer, and that no text may yield."""
        named = [piece for layout in self.layouts.values() for piece in layout if isinstance(piece, str)]
        return tuple(dict.fromkeys(token for token in (self.opening, *named, self.end) if token))


def _layouts(
    begin: str, suffix: str, middle: str, *, before: tuple[str, ...] = ()
) -> Mapping[Order, tuple[Piece, ...]]:
    return MappingProxyType(
        {
            Order.PSM: (*before, begin, Slot.PREFIX, suffix, Slot.SUFFIX, middle),
            Order.SPM: (*before, begin, suffix, Slot.SUFFIX, middle, Slot.PREFIX),
        }
    )


FAMILIES: Mapping[str, FimFamily] = MappingProxyType(
    {
        # Qwen2.5-Coder technical report (arXiv 2409.12186), section 3.2.1: file-level FIM is PSM and ends with <|endoftext|>; the
        # repository form has <|repo_name|> and <|file_sep|>. The tokenizer puts nothing before a text (`add_bos_token` is false). SPM
        # is not published for it: here rows teach it, and PSM is what is served.
        "qwen2.5-coder": FimFamily(
            _layouts("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
            end="<|endoftext|>",
            other_ends=(
                "<|file_sep|>",
                "<|repo_name|>",
                "<|fim_prefix|>",
                "<|fim_suffix|>",
                "<|fim_middle|>",
                "<|fim_pad|>",
                "<|im_end|>",
            ),
        ),
        # StarCoder2 (arXiv 2402.19173), section 5.1: every file begins with <file_sep>, with or without its name; a FIM file is
        # <file_sep><fim_prefix>…; a repository ends with <|endoftext|>. Both orders by halves: bigcode-project/Megatron-LM,
        # megatron/data/gpt_dataset.py, `permute`.
        "starcoder2": FimFamily(
            _layouts("<fim_prefix>", "<fim_suffix>", "<fim_middle>", before=("<file_sep>",)),
            end="<|endoftext|>",
            other_ends=("<file_sep>", "<repo_name>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>"),
        ),
        # CodeLlama (arXiv 2308.12950), section 2.3, and facebookresearch/codellama, llama/generation.py, `infilling_prompt_tokens`:
        # <s>, then the parts; no space before suffix and middle; <EOT> ends a middle. Its SPM rows joined prefix and middle before
        # they were tokenised; here they are tokenised apart, so that a row begins exactly as its prompt.
        "codellama": FimFamily(
            _layouts("▁<PRE>", "▁<SUF>", "▁<MID>"),
            end="▁<EOT>",
            other_ends=("</s>",),
            opening="<s>",
            has_spaced_prefix=True,
        ),
        # DeepSeek-Coder (arXiv 2401.14196), section 3.1.2, and the README of deepseek-ai/DeepSeek-Coder: PSM, where the "hole" token
        # stands between the parts, closed by the token for the end of a sentence; the tokenizer puts its beginning before every text
        # (`add_bos_token`). SPM as for Qwen.
        "deepseek-coder": FimFamily(
            _layouts("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
            end="<｜end▁of▁sentence｜>",
            other_ends=("<|EOT|>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
            opening="<｜begin▁of▁sentence｜>",
        ),
        # Codestral: mistralai/mistral-common, `encode_fim` of its instruct tokenizers from V2 on, and its test
        # ("<s>[SUFFIX]return▁a▁+▁b[PREFIX]▁def▁f("): suffix, prefix, and the middle right behind, without a token of its own. There
        # is no PSM.
        "codestral": FimFamily(
            MappingProxyType({Order.SPM: ("[SUFFIX]", Slot.SUFFIX, "[PREFIX]", Slot.PREFIX)}),
            end="</s>",
            other_ends=("[SUFFIX]", "[PREFIX]"),
            opening="<s>",
            has_spaced_prefix=True,
        ),
    }
)

TAUGHT = FimFamily(
    MappingProxyType(
        {
            Order.SPM: (Label("suffix\n"), Slot.SUFFIX, END_OF_TURN, Label("prefix\n"), Slot.PREFIX),
            Order.PSM: (
                Label("prefix\n"), Slot.PREFIX, END_OF_TURN, Label("suffix\n"), Slot.SUFFIX, END_OF_TURN, Label("middle\n"),
            ),
        }
    ),
    end=END_OF_TURN,
    carries_space=True,
)  # fmt: skip
"""For a base that knows nothing of middles, taught by the rows alone.

Plain words name the parts, and the base's end-of-turn token closes each. No text can yield that token, so code that spells the words,
or the token, stays code: what follows a token is a label, and nothing else is. SPM is served: the middle goes on where the prefix
stops, as a base that was never asked for one would, and while someone types, what comes first in the prompt stays the same. Such a
base was never cut behind a space either, which byte-level tokenizers join with the word that follows: it would go on with another
space, and an indented line would be indented wrongly.
"""
