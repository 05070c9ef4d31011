"""What a bot may do, and which of it this release serves."""

import enum

from adaptory.core.errors import NotServed


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


# A kind is served once its module in this package reads its data and says how it is trained.
_SERVED_KINDS = (BotKind.FAQ,)
_SERVED_FORMATS = (DatasetFormat.FAQ_JSONL,)


def require_served_kind(kind: BotKind) -> None:
    """Raise NotServed, with the kinds that are, unless bots of this kind can be trained."""
    if kind not in _SERVED_KINDS:
        served = ", ".join(_SERVED_KINDS)
        raise NotServed(f"Bots of kind {kind} are not served yet; served are: {served}.", metadata={"served": served})


def require_served_format(dataset_format: DatasetFormat) -> None:
    """Raise NotServed, with the formats that are, unless data of this format can be read."""
    if dataset_format not in _SERVED_FORMATS:
        served = ", ".join(_SERVED_FORMATS)
        message = f"Datasets of format {dataset_format} are not read yet; read are: {served}."
        raise NotServed(message, metadata={"served": served})
