"""How much data may be: the caps of every reader, so that whatever is uploaded is judged in bounded memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataLimits:
    """Caps of one dataset. An operator sets the first ones; those of texts keep a row within what any base can learn."""

    max_line_bytes: int = 256 * 1024
    max_entries: int = 100_000
    max_rows: int = 200_000
    max_tokens: int = 50_000_000
    max_json_depth: int = 16
    max_wordings: int = 64
    max_tags: int = 32
    max_question_chars: int = 4_000
    max_answer_chars: int = 16_000
    max_turns: int = 256
    max_turn_chars: int = 32_000
