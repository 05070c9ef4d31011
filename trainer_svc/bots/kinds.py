"""What a bot may do and how data may be laid out, in the contract's words; `teaching.py` and `formats.py` say what is served."""

import enum


class BotKind(enum.StrEnum):
    """What a bot does."""

    FAQ = "FAQ"
    SUPPORT = "SUPPORT"
    CODE_COMPLETION = "CODE_COMPLETION"


class DatasetFormat(enum.StrEnum):
    """How a dataset's bytes are laid out."""

    FAQ_JSONL = "FAQ_JSONL"
    FAQ_CSV = "FAQ_CSV"
    FAQ_TSV = "FAQ_TSV"
    CONVERSATION_JSONL = "CONVERSATION_JSONL"
    CODE_JSONL = "CODE_JSONL"
    CODE_TAR = "CODE_TAR"
    PREFERENCE_JSONL = "PREFERENCE_JSONL"
    ADAPTER_TAR = "ADAPTER_TAR"

    @property
    def is_data(self) -> bool:
        """Whether a dataset holds data, and not an adapter that is to be imported."""
        return self is not DatasetFormat.ADAPTER_TAR
