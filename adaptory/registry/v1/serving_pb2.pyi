from adaptory.registry.v1 import bot_pb2 as _bot_pb2
from adaptory.registry.v1 import tenant_pb2 as _tenant_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServingUpdate(_message.Message):
    __slots__ = ("generation", "snapshot", "delta")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    generation: int
    snapshot: ServingState
    delta: ServingDelta
    def __init__(self, generation: _Optional[int] = ..., snapshot: _Optional[_Union[ServingState, _Mapping]] = ..., delta: _Optional[_Union[ServingDelta, _Mapping]] = ...) -> None: ...

class ServingState(_message.Message):
    __slots__ = ("tenants", "bots", "versions")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    BOTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[ServingTenant]
    bots: _containers.RepeatedCompositeFieldContainer[ServingBot]
    versions: _containers.RepeatedCompositeFieldContainer[ServingVersion]
    def __init__(self, tenants: _Optional[_Iterable[_Union[ServingTenant, _Mapping]]] = ..., bots: _Optional[_Iterable[_Union[ServingBot, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[ServingVersion, _Mapping]]] = ...) -> None: ...

class ServingDelta(_message.Message):
    __slots__ = ("changed", "removed")
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    changed: ServingState
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changed: _Optional[_Union[ServingState, _Mapping]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

class ServingTenant(_message.Message):
    __slots__ = ("name", "key_digests", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    key_digests: _containers.RepeatedScalarFieldContainer[str]
    limits: _tenant_pb2.TenantLimits
    def __init__(self, name: _Optional[str] = ..., key_digests: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[_tenant_pb2.TenantLimits, _Mapping]] = ...) -> None: ...

class ServingBot(_message.Message):
    __slots__ = ("name", "kind", "base_model", "system_prompt", "generation_defaults", "routes", "answer_schema")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _bot_pb2.BotKind
    base_model: str
    system_prompt: str
    generation_defaults: _bot_pb2.GenerationDefaults
    routes: _bot_pb2.Routes
    answer_schema: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_bot_pb2.BotKind, str]] = ..., base_model: _Optional[str] = ..., system_prompt: _Optional[str] = ..., generation_defaults: _Optional[_Union[_bot_pb2.GenerationDefaults, _Mapping]] = ..., routes: _Optional[_Union[_bot_pb2.Routes, _Mapping]] = ..., answer_schema: _Optional[str] = ...) -> None: ...

class ServingVersion(_message.Message):
    __slots__ = ("name", "digest", "engine_id", "rank", "size_bytes", "parity_digest", "system_prompt", "template_digest", "receipt")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARITY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    engine_id: int
    rank: int
    size_bytes: int
    parity_digest: str
    system_prompt: str
    template_digest: str
    receipt: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., engine_id: _Optional[int] = ..., rank: _Optional[int] = ..., size_bytes: _Optional[int] = ..., parity_digest: _Optional[str] = ..., system_prompt: _Optional[str] = ..., template_digest: _Optional[str] = ..., receipt: _Optional[_Iterable[str]] = ...) -> None: ...
