"""How answers are generated in memory that training has reserved: that of records, gradients and moments, none of which it needs.

Nothing is kept for a backward pass, so one record serves all layers, and what the rest took goes to the keys and values of as many
rows as fit. The worker takes what is said here, and the estimator prices the phase by the smallest room, that of one row.
Symbols as in `layout`: L layers, kv all key heads, N nodes of the largest pack of prompts, W places of a row's keys and values.
"""

from dataclasses import dataclass

from trainer_svc.memory.layout import BF16, WIDTH_MULTIPLE, count_tape, lay_out_tape, round_size
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Recompute, Techniques

# Answers stop here, however the base goes on: longer ones than any reference are wrong anyway.
MAX_NEW_TOKENS = 256
# Tokens an answer may have beyond the longest reference.
SPARE_TOKENS = 16
# Prompts that are asked at most, spread over all held-out rows: some hundred tell base and adapter apart.
MAX_JUDGED = 96
# Rows of general text that are judged, and their longest length.
MAX_GENERAL_ROWS = 12
MAX_GENERAL_TOKENS = 256
# Rows that grow together at most: more make a step no cheaper by the row on a CPU.
MAX_ROWS = 32
# Sizes of attention over a cache are multiples of this, since the matrix library keeps kernels for every size it meets.
PLACES_MULTIPLE = 64


@dataclass(frozen=True, slots=True)
class AnswerSizes:
    """How many rows grow together, how many of them are read in one pack, and for how many tokens each row has room."""

    num_rows: int
    pack_rows: int
    num_places: int
    max_new_tokens: int


def limit_new_tokens(longest_reference: int) -> int:
    """Return how many tokens an answer may have, its end of turn included, where references have at most so many."""
    return min(MAX_NEW_TOKENS, longest_reference + SPARE_TOKENS)


def count_places(prompt_tokens: int, max_new_tokens: int) -> int:
    """Return W for prompts of at most so many tokens: the last token of an answer is never read again."""
    return -(-(prompt_tokens + max_new_tokens) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def count_cache_row(shape: ModelShape, num_places: int) -> int:
    """Return what the keys and values of one row take: 2 L kv W elements in bf16."""
    return 2 * BF16 * shape.num_layers * shape.kv_size * num_places


def count_record(shape: ModelShape, rank: int, num_nodes: int) -> int:
    """Return what the one record takes, with the output of a layer."""
    widths = lay_out_tape(shape, rank, Recompute.NONE).record
    return BF16 * num_nodes * (sum(widths.values()) + shape.hidden_size)


def plan_sizes(num_rows: int, pack_rows: int, num_places: int, max_new_tokens: int) -> AnswerSizes:
    """Return sizes under which whole packs fill the cache."""
    pack_rows = min(pack_rows, num_rows)
    return AnswerSizes(num_rows - num_rows % pack_rows, pack_rows, num_places, max_new_tokens)


def count_excess(shape: ModelShape, techniques: Techniques, *, rank: int, step_nodes: int, longest_row: int) -> int:
    """Return what generating one row at a time takes beyond the tape of a step; judged rows have at most `longest_row` tokens.

    A prompt and its reference share a row, but the longest of both may be in two of them.
    """
    if not longest_row:
        return 0
    num_places = count_places(longest_row, limit_new_tokens(longest_row))
    nodes = max(round_size(longest_row), MAX_ROWS)
    needed = count_record(shape, rank, nodes) + count_cache_row(shape, num_places)
    return max(0, needed - sum(count_tape(shape, techniques, step_nodes, rank)))
