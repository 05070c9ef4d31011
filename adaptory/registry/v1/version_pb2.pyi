import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Version(_message.Message):
    __slots__ = ("name", "state", "digest", "engine_id", "rank", "size_bytes", "lineage", "evaluation", "rejection", "create_time", "system_prompt", "gate_override")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Version.State]
        STATE_READY: _ClassVar[Version.State]
        STATE_REJECTED: _ClassVar[Version.State]
        STATE_RETIRED: _ClassVar[Version.State]
        STATE_UNJUDGED: _ClassVar[Version.State]
    STATE_UNSPECIFIED: Version.State
    STATE_READY: Version.State
    STATE_REJECTED: Version.State
    STATE_RETIRED: Version.State
    STATE_UNJUDGED: Version.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    GATE_OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Version.State
    digest: str
    engine_id: int
    rank: int
    size_bytes: int
    lineage: Lineage
    evaluation: Evaluation
    rejection: str
    create_time: _timestamp_pb2.Timestamp
    system_prompt: str
    gate_override: GateOverride
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Version.State, str]] = ..., digest: _Optional[str] = ..., engine_id: _Optional[int] = ..., rank: _Optional[int] = ..., size_bytes: _Optional[int] = ..., lineage: _Optional[_Union[Lineage, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., rejection: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., system_prompt: _Optional[str] = ..., gate_override: _Optional[_Union[GateOverride, _Mapping]] = ...) -> None: ...

class GateOverride(_message.Message):
    __slots__ = ("reason", "caller", "time")
    REASON_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    reason: str
    caller: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[str] = ..., caller: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("training_job", "dataset", "dataset_digest", "base_model", "base_digest", "parity_digest", "code_versions", "settings", "device", "memory_limit_bytes", "predicted_peak_bytes", "measured_peak_bytes", "phase_peak_bytes", "template_digest", "predicted_phase_bytes", "num_climbs", "final_techniques", "refusal_text", "num_refusal_rows", "receipt", "best_step", "num_steps", "imported")
    class CodeVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PhasePeakBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PredictedPhaseBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARITY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEASURED_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    PHASE_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_PHASE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUM_CLIMBS_FIELD_NUMBER: _ClassVar[int]
    FINAL_TECHNIQUES_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_TEXT_FIELD_NUMBER: _ClassVar[int]
    NUM_REFUSAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    BEST_STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    training_job: str
    dataset: str
    dataset_digest: str
    base_model: str
    base_digest: str
    parity_digest: str
    code_versions: _containers.ScalarMap[str, str]
    settings: _containers.ScalarMap[str, str]
    device: str
    memory_limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    phase_peak_bytes: _containers.ScalarMap[str, int]
    template_digest: str
    predicted_phase_bytes: _containers.ScalarMap[str, int]
    num_climbs: int
    final_techniques: str
    refusal_text: str
    num_refusal_rows: int
    receipt: _containers.RepeatedScalarFieldContainer[str]
    best_step: int
    num_steps: int
    imported: ImportedAdapter
    def __init__(self, training_job: _Optional[str] = ..., dataset: _Optional[str] = ..., dataset_digest: _Optional[str] = ..., base_model: _Optional[str] = ..., base_digest: _Optional[str] = ..., parity_digest: _Optional[str] = ..., code_versions: _Optional[_Mapping[str, str]] = ..., settings: _Optional[_Mapping[str, str]] = ..., device: _Optional[str] = ..., memory_limit_bytes: _Optional[int] = ..., predicted_peak_bytes: _Optional[int] = ..., measured_peak_bytes: _Optional[int] = ..., phase_peak_bytes: _Optional[_Mapping[str, int]] = ..., template_digest: _Optional[str] = ..., predicted_phase_bytes: _Optional[_Mapping[str, int]] = ..., num_climbs: _Optional[int] = ..., final_techniques: _Optional[str] = ..., refusal_text: _Optional[str] = ..., num_refusal_rows: _Optional[int] = ..., receipt: _Optional[_Iterable[str]] = ..., best_step: _Optional[int] = ..., num_steps: _Optional[int] = ..., imported: _Optional[_Union[ImportedAdapter, _Mapping]] = ...) -> None: ...

class ImportedAdapter(_message.Message):
    __slots__ = ("dataset", "dataset_digest", "origin", "named_base", "original_config", "changes")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    NAMED_BASE_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_CONFIG_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    dataset_digest: str
    origin: str
    named_base: str
    original_config: str
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., dataset_digest: _Optional[str] = ..., origin: _Optional[str] = ..., named_base: _Optional[str] = ..., original_config: _Optional[str] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("base_loss", "adapter_loss", "num_held_out_rows", "num_train_rows", "train_tokens_per_second", "train_seconds", "base_general_loss", "adapter_general_loss", "scores", "samples", "notes", "certainty")
    BASE_LOSS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_LOSS_FIELD_NUMBER: _ClassVar[int]
    NUM_HELD_OUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    NUM_TRAIN_ROWS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TRAIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BASE_GENERAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_GENERAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    base_loss: float
    adapter_loss: float
    num_held_out_rows: int
    num_train_rows: int
    train_tokens_per_second: float
    train_seconds: float
    base_general_loss: float
    adapter_general_loss: float
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    samples: _containers.RepeatedCompositeFieldContainer[SampleAnswer]
    notes: _containers.RepeatedScalarFieldContainer[str]
    certainty: _containers.RepeatedCompositeFieldContainer[CertaintyFloor]
    def __init__(self, base_loss: _Optional[float] = ..., adapter_loss: _Optional[float] = ..., num_held_out_rows: _Optional[int] = ..., num_train_rows: _Optional[int] = ..., train_tokens_per_second: _Optional[float] = ..., train_seconds: _Optional[float] = ..., base_general_loss: _Optional[float] = ..., adapter_general_loss: _Optional[float] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[SampleAnswer, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ..., certainty: _Optional[_Iterable[_Union[CertaintyFloor, _Mapping]]] = ...) -> None: ...

class CertaintyFloor(_message.Message):
    __slots__ = ("floor", "num_right", "num_wrong")
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    NUM_RIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_WRONG_FIELD_NUMBER: _ClassVar[int]
    floor: float
    num_right: int
    num_wrong: int
    def __init__(self, floor: _Optional[float] = ..., num_right: _Optional[int] = ..., num_wrong: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("name", "base", "adapter", "num_answers", "is_lower_better")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    NUM_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    IS_LOWER_BETTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    base: float
    adapter: float
    num_answers: int
    is_lower_better: bool
    def __init__(self, name: _Optional[str] = ..., base: _Optional[float] = ..., adapter: _Optional[float] = ..., num_answers: _Optional[int] = ..., is_lower_better: _Optional[bool] = ...) -> None: ...

class SampleAnswer(_message.Message):
    __slots__ = ("question", "reference", "base", "adapter")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    question: str
    reference: str
    base: str
    adapter: str
    def __init__(self, question: _Optional[str] = ..., reference: _Optional[str] = ..., base: _Optional[str] = ..., adapter: _Optional[str] = ...) -> None: ...
