"""Rows of general text, on which a loss shows whether an adapter spoils what its base knew before.

Every token but a row's first is predicted; what the base's tokenizer puts before any text stands before each row and is not. Rows are
as long as the longest one held out, so that judging them takes no more memory.
"""

from tokenizers import Tokenizer

from adaptory.core.opening import find_opening
from adaptory.core.prompting import RenderedRow
from trainer_svc.judging.general_text import read_general_text
from trainer_svc.memory.generation import MAX_GENERAL_ROWS, MAX_GENERAL_TOKENS
from trainer_svc.worker.rows import Rows

_MIN_ROW_TOKENS = 8


def cut_general_rows(tokenizer: Tokenizer, held_out: Rows) -> list[RenderedRow]:
    """Return the shipped text in rows of one length; what is left over at its end is not read."""
    ids: list[int] = tokenizer.encode(read_general_text(), add_special_tokens=False).ids
    opening = find_opening(tokenizer)
    longest = max(len(row.ids) for row in held_out.rows)
    length = min(max(longest, _MIN_ROW_TOKENS), MAX_GENERAL_TOKENS, len(ids)) - len(opening)
    num_rows = min(MAX_GENERAL_ROWS, len(ids) // length)
    rows = [(*opening, *ids[row * length : (row + 1) * length]) for row in range(num_rows)]
    num_given = max(1, len(opening))
    return [RenderedRow(row, (*(False,) * num_given, *(True,) * (len(row) - num_given))) for row in rows]
