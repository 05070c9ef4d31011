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

class GetResidencyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Residency(_message.Message):
    __slots__ = ("base_digest", "max_resident", "adapters", "generation", "following", "num_engine_starts", "versions", "disk_bytes", "max_disk_bytes", "memory", "batches")
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MAX_RESIDENT_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    NUM_ENGINE_STARTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    base_digest: str
    max_resident: int
    adapters: _containers.RepeatedCompositeFieldContainer[ResidentAdapter]
    generation: int
    following: bool
    num_engine_starts: int
    versions: _containers.RepeatedCompositeFieldContainer[KnownVersion]
    disk_bytes: int
    max_disk_bytes: int
    memory: MemoryPlan
    batches: Batches
    def __init__(self, base_digest: _Optional[str] = ..., max_resident: _Optional[int] = ..., adapters: _Optional[_Iterable[_Union[ResidentAdapter, _Mapping]]] = ..., generation: _Optional[int] = ..., following: _Optional[bool] = ..., num_engine_starts: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[KnownVersion, _Mapping]]] = ..., disk_bytes: _Optional[int] = ..., max_disk_bytes: _Optional[int] = ..., memory: _Optional[_Union[MemoryPlan, _Mapping]] = ..., batches: _Optional[_Union[Batches, _Mapping]] = ...) -> None: ...

class Batches(_message.Message):
    __slots__ = ("max_in_flight", "kept_places", "max_loras", "max_step_tokens", "max_tokens_in_flight", "max_unread_tokens")
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    KEPT_PLACES_FIELD_NUMBER: _ClassVar[int]
    MAX_LORAS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_UNREAD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    kept_places: int
    max_loras: int
    max_step_tokens: int
    max_tokens_in_flight: int
    max_unread_tokens: int
    def __init__(self, max_in_flight: _Optional[int] = ..., kept_places: _Optional[int] = ..., max_loras: _Optional[int] = ..., max_step_tokens: _Optional[int] = ..., max_tokens_in_flight: _Optional[int] = ..., max_unread_tokens: _Optional[int] = ...) -> None: ...

class MemoryPlan(_message.Message):
    __slots__ = ("limit_bytes", "processes_bytes", "base_bytes", "kv_cache_bytes", "slots_bytes", "adapter_bytes", "total_bytes")
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_BYTES_FIELD_NUMBER: _ClassVar[int]
    BASE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    limit_bytes: int
    processes_bytes: int
    base_bytes: int
    kv_cache_bytes: int
    slots_bytes: int
    adapter_bytes: int
    total_bytes: int
    def __init__(self, limit_bytes: _Optional[int] = ..., processes_bytes: _Optional[int] = ..., base_bytes: _Optional[int] = ..., kv_cache_bytes: _Optional[int] = ..., slots_bytes: _Optional[int] = ..., adapter_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class KnownVersion(_message.Message):
    __slots__ = ("version", "state", "num_leases", "quarantine")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[KnownVersion.State]
        STATE_ABSENT: _ClassVar[KnownVersion.State]
        STATE_DOWNLOADED: _ClassVar[KnownVersion.State]
        STATE_VERIFIED: _ClassVar[KnownVersion.State]
        STATE_LOADED: _ClassVar[KnownVersion.State]
        STATE_DRAINING: _ClassVar[KnownVersion.State]
        STATE_QUARANTINED: _ClassVar[KnownVersion.State]
    STATE_UNSPECIFIED: KnownVersion.State
    STATE_ABSENT: KnownVersion.State
    STATE_DOWNLOADED: KnownVersion.State
    STATE_VERIFIED: KnownVersion.State
    STATE_LOADED: KnownVersion.State
    STATE_DRAINING: KnownVersion.State
    STATE_QUARANTINED: KnownVersion.State
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NUM_LEASES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    version: str
    state: KnownVersion.State
    num_leases: int
    quarantine: Quarantine
    def __init__(self, version: _Optional[str] = ..., state: _Optional[_Union[KnownVersion.State, str]] = ..., num_leases: _Optional[int] = ..., quarantine: _Optional[_Union[Quarantine, _Mapping]] = ...) -> None: ...

class Quarantine(_message.Message):
    __slots__ = ("reason", "message", "since_time", "retry_time")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    since_time: _timestamp_pb2.Timestamp
    retry_time: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ResidentAdapter(_message.Message):
    __slots__ = ("version", "digest", "engine_id", "num_leases")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_LEASES_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    engine_id: int
    num_leases: int
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ..., engine_id: _Optional[int] = ..., num_leases: _Optional[int] = ...) -> None: ...

class WarmVersionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WarmVersionResponse(_message.Message):
    __slots__ = ("load_seconds",)
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    load_seconds: float
    def __init__(self, load_seconds: _Optional[float] = ...) -> None: ...

class ReleaseVersionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReleaseVersionResponse(_message.Message):
    __slots__ = ("quarantine",)
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    quarantine: Quarantine
    def __init__(self, quarantine: _Optional[_Union[Quarantine, _Mapping]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("num_drained",)
    NUM_DRAINED_FIELD_NUMBER: _ClassVar[int]
    num_drained: int
    def __init__(self, num_drained: _Optional[int] = ...) -> None: ...
