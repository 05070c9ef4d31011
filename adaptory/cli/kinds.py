"""What kinds of bots, layouts of data and methods are called on the command line."""

import enum
from pathlib import Path

from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1 import bot_pb2, dataset_pb2
from adaptory.trainer.v1 import training_job_pb2


class Kind(enum.StrEnum):
    """What a bot does."""

    FAQ = "faq"
    SUPPORT = "support"
    CODE = "code"

    def to_proto(self) -> bot_pb2.BotKind:
        """Return the contract's value."""
        return {
            Kind.FAQ: bot_pb2.BOT_KIND_FAQ,
            Kind.SUPPORT: bot_pb2.BOT_KIND_SUPPORT,
            Kind.CODE: bot_pb2.BOT_KIND_CODE_COMPLETION,
        }[self]


class Layout(enum.StrEnum):
    """How a file is laid out."""

    FAQ_JSONL = "faq-jsonl"
    FAQ_CSV = "faq-csv"
    FAQ_TSV = "faq-tsv"
    CONVERSATION_JSONL = "conversation-jsonl"
    CODE_JSONL = "code-jsonl"
    CODE_TAR = "code-tar"
    PREFERENCE_JSONL = "preference-jsonl"

    def to_proto(self) -> dataset_pb2.DatasetFormat:
        """Return the contract's value."""
        return {
            Layout.FAQ_JSONL: dataset_pb2.DATASET_FORMAT_FAQ_JSONL,
            Layout.FAQ_CSV: dataset_pb2.DATASET_FORMAT_FAQ_CSV,
            Layout.FAQ_TSV: dataset_pb2.DATASET_FORMAT_FAQ_TSV,
            Layout.CONVERSATION_JSONL: dataset_pb2.DATASET_FORMAT_CONVERSATION_JSONL,
            Layout.CODE_JSONL: dataset_pb2.DATASET_FORMAT_CODE_JSONL,
            Layout.CODE_TAR: dataset_pb2.DATASET_FORMAT_CODE_TAR,
            Layout.PREFERENCE_JSONL: dataset_pb2.DATASET_FORMAT_PREFERENCE_JSONL,
        }[self]


class Method(enum.StrEnum):
    """How an adapter is trained."""

    QLORA = "qlora"
    LORA = "lora"

    def to_proto(self) -> training_job_pb2.TrainingMethod:
        """Return the contract's value."""
        return {
            Method.QLORA: training_job_pb2.TRAINING_METHOD_QLORA,
            Method.LORA: training_job_pb2.TRAINING_METHOD_LORA,
        }[self]


_FORMATS = {
    (Kind.FAQ, ".jsonl"): dataset_pb2.DATASET_FORMAT_FAQ_JSONL,
    (Kind.FAQ, ".csv"): dataset_pb2.DATASET_FORMAT_FAQ_CSV,
    (Kind.FAQ, ".tsv"): dataset_pb2.DATASET_FORMAT_FAQ_TSV,
    (Kind.SUPPORT, ".jsonl"): dataset_pb2.DATASET_FORMAT_CONVERSATION_JSONL,
    (Kind.CODE, ".jsonl"): dataset_pb2.DATASET_FORMAT_CODE_JSONL,
    (Kind.CODE, ".tar"): dataset_pb2.DATASET_FORMAT_CODE_TAR,
    (Kind.CODE, ".gz"): dataset_pb2.DATASET_FORMAT_CODE_TAR,
}


def kind_name(kind: bot_pb2.BotKind) -> str:
    """Return the word for the contract's value."""
    return next((name.value for name in Kind if name.to_proto() == kind), "unknown")


def format_of(file: Path, kind: Kind) -> dataset_pb2.DatasetFormat:
    """Return the layout that a file's ending names. Raises InvalidRequest with the endings there are."""
    layout = _FORMATS.get((kind, file.suffix.lower()))
    if layout is None:
        endings = ", ".join(suffix for of_kind, suffix in _FORMATS if of_kind is kind)
        raise InvalidRequest.of_field(
            "file", f"{file.name} has no ending known for {kind.value} data; there are {endings}"
        )
    return layout
