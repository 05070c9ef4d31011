import datetime

from adaptory.registry.v1 import bot_pb2 as _bot_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DatasetFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATASET_FORMAT_UNSPECIFIED: _ClassVar[DatasetFormat]
    DATASET_FORMAT_FAQ_JSONL: _ClassVar[DatasetFormat]
    DATASET_FORMAT_FAQ_CSV: _ClassVar[DatasetFormat]
    DATASET_FORMAT_FAQ_TSV: _ClassVar[DatasetFormat]
    DATASET_FORMAT_CONVERSATION_JSONL: _ClassVar[DatasetFormat]
    DATASET_FORMAT_CODE_JSONL: _ClassVar[DatasetFormat]
    DATASET_FORMAT_CODE_TAR: _ClassVar[DatasetFormat]
    DATASET_FORMAT_PREFERENCE_JSONL: _ClassVar[DatasetFormat]
    DATASET_FORMAT_ADAPTER_TAR: _ClassVar[DatasetFormat]
DATASET_FORMAT_UNSPECIFIED: DatasetFormat
DATASET_FORMAT_FAQ_JSONL: DatasetFormat
DATASET_FORMAT_FAQ_CSV: DatasetFormat
DATASET_FORMAT_FAQ_TSV: DatasetFormat
DATASET_FORMAT_CONVERSATION_JSONL: DatasetFormat
DATASET_FORMAT_CODE_JSONL: DatasetFormat
DATASET_FORMAT_CODE_TAR: DatasetFormat
DATASET_FORMAT_PREFERENCE_JSONL: DatasetFormat
DATASET_FORMAT_ADAPTER_TAR: DatasetFormat

class Dataset(_message.Message):
    __slots__ = ("name", "kind", "format", "display_name", "state", "size_bytes", "digest", "report", "create_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Dataset.State]
        STATE_UPLOADING: _ClassVar[Dataset.State]
        STATE_READY: _ClassVar[Dataset.State]
        STATE_REJECTED: _ClassVar[Dataset.State]
    STATE_UNSPECIFIED: Dataset.State
    STATE_UPLOADING: Dataset.State
    STATE_READY: Dataset.State
    STATE_REJECTED: Dataset.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _bot_pb2.BotKind
    format: DatasetFormat
    display_name: str
    state: Dataset.State
    size_bytes: int
    digest: str
    report: DatasetReport
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_bot_pb2.BotKind, str]] = ..., format: _Optional[_Union[DatasetFormat, str]] = ..., display_name: _Optional[str] = ..., state: _Optional[_Union[Dataset.State, str]] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[str] = ..., report: _Optional[_Union[DatasetReport, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DatasetReport(_message.Message):
    __slots__ = ("num_entries", "num_rows", "problems", "num_problems", "base_model", "num_tokens", "longest_row_tokens", "row_lengths", "num_by_reason", "num_tests")
    class NumByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NUM_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LONGEST_ROW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROW_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    NUM_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    NUM_TESTS_FIELD_NUMBER: _ClassVar[int]
    num_entries: int
    num_rows: int
    problems: _containers.RepeatedCompositeFieldContainer[DatasetProblem]
    num_problems: int
    base_model: str
    num_tokens: int
    longest_row_tokens: int
    row_lengths: _containers.RepeatedCompositeFieldContainer[LengthBucket]
    num_by_reason: _containers.ScalarMap[str, int]
    num_tests: int
    def __init__(self, num_entries: _Optional[int] = ..., num_rows: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[DatasetProblem, _Mapping]]] = ..., num_problems: _Optional[int] = ..., base_model: _Optional[str] = ..., num_tokens: _Optional[int] = ..., longest_row_tokens: _Optional[int] = ..., row_lengths: _Optional[_Iterable[_Union[LengthBucket, _Mapping]]] = ..., num_by_reason: _Optional[_Mapping[str, int]] = ..., num_tests: _Optional[int] = ...) -> None: ...

class LengthBucket(_message.Message):
    __slots__ = ("max_tokens", "num_rows")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    num_rows: int
    def __init__(self, max_tokens: _Optional[int] = ..., num_rows: _Optional[int] = ...) -> None: ...

class DatasetProblem(_message.Message):
    __slots__ = ("line", "reason", "description", "severity")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[DatasetProblem.Severity]
        SEVERITY_WARNING: _ClassVar[DatasetProblem.Severity]
        SEVERITY_ERROR: _ClassVar[DatasetProblem.Severity]
    SEVERITY_UNSPECIFIED: DatasetProblem.Severity
    SEVERITY_WARNING: DatasetProblem.Severity
    SEVERITY_ERROR: DatasetProblem.Severity
    LINE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    line: int
    reason: str
    description: str
    severity: DatasetProblem.Severity
    def __init__(self, line: _Optional[int] = ..., reason: _Optional[str] = ..., description: _Optional[str] = ..., severity: _Optional[_Union[DatasetProblem.Severity, str]] = ...) -> None: ...
