import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_METHOD_UNSPECIFIED: _ClassVar[TrainingMethod]
    TRAINING_METHOD_QLORA: _ClassVar[TrainingMethod]
    TRAINING_METHOD_LORA: _ClassVar[TrainingMethod]
    TRAINING_METHOD_FULL: _ClassVar[TrainingMethod]
    TRAINING_METHOD_DPO: _ClassVar[TrainingMethod]
TRAINING_METHOD_UNSPECIFIED: TrainingMethod
TRAINING_METHOD_QLORA: TrainingMethod
TRAINING_METHOD_LORA: TrainingMethod
TRAINING_METHOD_FULL: TrainingMethod
TRAINING_METHOD_DPO: TrainingMethod

class TrainingJob(_message.Message):
    __slots__ = ("name", "bot", "dataset", "settings", "memory_limit_bytes", "state", "plan", "progress", "version", "error", "measured_peak_bytes", "create_time", "start_time", "end_time", "measured_phase_bytes", "num_climbs", "judges_only")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[TrainingJob.State]
        STATE_PENDING: _ClassVar[TrainingJob.State]
        STATE_RUNNING: _ClassVar[TrainingJob.State]
        STATE_PUBLISHING: _ClassVar[TrainingJob.State]
        STATE_SUCCEEDED: _ClassVar[TrainingJob.State]
        STATE_FAILED: _ClassVar[TrainingJob.State]
        STATE_CANCELLING: _ClassVar[TrainingJob.State]
        STATE_CANCELLED: _ClassVar[TrainingJob.State]
        STATE_PAUSED: _ClassVar[TrainingJob.State]
    STATE_UNSPECIFIED: TrainingJob.State
    STATE_PENDING: TrainingJob.State
    STATE_RUNNING: TrainingJob.State
    STATE_PUBLISHING: TrainingJob.State
    STATE_SUCCEEDED: TrainingJob.State
    STATE_FAILED: TrainingJob.State
    STATE_CANCELLING: TrainingJob.State
    STATE_CANCELLED: TrainingJob.State
    STATE_PAUSED: TrainingJob.State
    class MeasuredPhaseBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    BOT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MEASURED_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    MEASURED_PHASE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUM_CLIMBS_FIELD_NUMBER: _ClassVar[int]
    JUDGES_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    bot: str
    dataset: str
    settings: TrainingSettings
    memory_limit_bytes: int
    state: TrainingJob.State
    plan: MemoryPlan
    progress: TrainingProgress
    version: str
    error: _status_pb2.Status
    measured_peak_bytes: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    measured_phase_bytes: _containers.ScalarMap[str, int]
    num_climbs: int
    judges_only: bool
    def __init__(self, name: _Optional[str] = ..., bot: _Optional[str] = ..., dataset: _Optional[str] = ..., settings: _Optional[_Union[TrainingSettings, _Mapping]] = ..., memory_limit_bytes: _Optional[int] = ..., state: _Optional[_Union[TrainingJob.State, str]] = ..., plan: _Optional[_Union[MemoryPlan, _Mapping]] = ..., progress: _Optional[_Union[TrainingProgress, _Mapping]] = ..., version: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., measured_peak_bytes: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., measured_phase_bytes: _Optional[_Mapping[str, int]] = ..., num_climbs: _Optional[int] = ..., judges_only: _Optional[bool] = ...) -> None: ...

class TrainingSettings(_message.Message):
    __slots__ = ("method", "rank", "alpha", "learning_rate", "epochs", "batch_rows", "max_row_tokens", "seed", "max_steps", "held_out_share", "early_stopping_patience")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_SHARE_FIELD_NUMBER: _ClassVar[int]
    EARLY_STOPPING_PATIENCE_FIELD_NUMBER: _ClassVar[int]
    method: TrainingMethod
    rank: int
    alpha: int
    learning_rate: float
    epochs: int
    batch_rows: int
    max_row_tokens: int
    seed: int
    max_steps: int
    held_out_share: float
    early_stopping_patience: int
    def __init__(self, method: _Optional[_Union[TrainingMethod, str]] = ..., rank: _Optional[int] = ..., alpha: _Optional[int] = ..., learning_rate: _Optional[float] = ..., epochs: _Optional[int] = ..., batch_rows: _Optional[int] = ..., max_row_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., max_steps: _Optional[int] = ..., held_out_share: _Optional[float] = ..., early_stopping_patience: _Optional[int] = ...) -> None: ...

class MemoryPlan(_message.Message):
    __slots__ = ("predicted_peak_bytes", "limit_bytes", "terms", "base_precision", "checkpointing", "micro_batch_rows", "accumulation", "smallest_limit_bytes", "phases", "recompute", "moments", "offloaded", "loss_block_tokens", "summary", "expected_seconds", "alternatives", "compute")
    class TermsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PhasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PREDICTED_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    BASE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATION_FIELD_NUMBER: _ClassVar[int]
    SMALLEST_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    OFFLOADED_FIELD_NUMBER: _ClassVar[int]
    LOSS_BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    predicted_peak_bytes: int
    limit_bytes: int
    terms: _containers.ScalarMap[str, int]
    base_precision: str
    checkpointing: bool
    micro_batch_rows: int
    accumulation: int
    smallest_limit_bytes: int
    phases: _containers.ScalarMap[str, int]
    recompute: str
    moments: str
    offloaded: _containers.RepeatedScalarFieldContainer[str]
    loss_block_tokens: int
    summary: str
    expected_seconds: float
    alternatives: _containers.RepeatedCompositeFieldContainer[MemoryPlan]
    compute: str
    def __init__(self, predicted_peak_bytes: _Optional[int] = ..., limit_bytes: _Optional[int] = ..., terms: _Optional[_Mapping[str, int]] = ..., base_precision: _Optional[str] = ..., checkpointing: _Optional[bool] = ..., micro_batch_rows: _Optional[int] = ..., accumulation: _Optional[int] = ..., smallest_limit_bytes: _Optional[int] = ..., phases: _Optional[_Mapping[str, int]] = ..., recompute: _Optional[str] = ..., moments: _Optional[str] = ..., offloaded: _Optional[_Iterable[str]] = ..., loss_block_tokens: _Optional[int] = ..., summary: _Optional[str] = ..., expected_seconds: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[MemoryPlan, _Mapping]]] = ..., compute: _Optional[str] = ...) -> None: ...

class TrainingProgress(_message.Message):
    __slots__ = ("phase", "step", "num_steps", "loss", "learning_rate", "tokens_per_second", "step_seconds", "eta_seconds", "peak_bytes", "held_out_loss")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_LOSS_FIELD_NUMBER: _ClassVar[int]
    phase: str
    step: int
    num_steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    step_seconds: float
    eta_seconds: float
    peak_bytes: int
    held_out_loss: float
    def __init__(self, phase: _Optional[str] = ..., step: _Optional[int] = ..., num_steps: _Optional[int] = ..., loss: _Optional[float] = ..., learning_rate: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., step_seconds: _Optional[float] = ..., eta_seconds: _Optional[float] = ..., peak_bytes: _Optional[int] = ..., held_out_loss: _Optional[float] = ...) -> None: ...

class MemoryClimb(_message.Message):
    __slots__ = ("phase", "step", "peak_bytes", "summary", "micro_batch_rows", "predicted_peak_bytes", "message")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    phase: str
    step: int
    peak_bytes: int
    summary: str
    micro_batch_rows: int
    predicted_peak_bytes: int
    message: str
    def __init__(self, phase: _Optional[str] = ..., step: _Optional[int] = ..., peak_bytes: _Optional[int] = ..., summary: _Optional[str] = ..., micro_batch_rows: _Optional[int] = ..., predicted_peak_bytes: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class TrainingEvent(_message.Message):
    __slots__ = ("sequence", "time", "state", "progress", "message", "climb")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CLIMB_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    state: TrainingJob.State
    progress: TrainingProgress
    message: str
    climb: MemoryClimb
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[TrainingJob.State, str]] = ..., progress: _Optional[_Union[TrainingProgress, _Mapping]] = ..., message: _Optional[str] = ..., climb: _Optional[_Union[MemoryClimb, _Mapping]] = ...) -> None: ...
