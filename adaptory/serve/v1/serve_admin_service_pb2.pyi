from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetResidencyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Residency(_message.Message):
    __slots__ = ("base_digest", "max_resident", "adapters", "generation", "following", "num_engine_starts")
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MAX_RESIDENT_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    NUM_ENGINE_STARTS_FIELD_NUMBER: _ClassVar[int]
    base_digest: str
    max_resident: int
    adapters: _containers.RepeatedCompositeFieldContainer[ResidentAdapter]
    generation: int
    following: bool
    num_engine_starts: int
    def __init__(self, base_digest: _Optional[str] = ..., max_resident: _Optional[int] = ..., adapters: _Optional[_Iterable[_Union[ResidentAdapter, _Mapping]]] = ..., generation: _Optional[int] = ..., following: _Optional[bool] = ..., num_engine_starts: _Optional[int] = ...) -> None: ...

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

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("num_drained",)
    NUM_DRAINED_FIELD_NUMBER: _ClassVar[int]
    num_drained: int
    def __init__(self, num_drained: _Optional[int] = ...) -> None: ...
