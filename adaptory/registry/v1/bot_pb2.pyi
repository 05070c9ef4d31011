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

class BotKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOT_KIND_UNSPECIFIED: _ClassVar[BotKind]
    BOT_KIND_FAQ: _ClassVar[BotKind]
    BOT_KIND_SUPPORT: _ClassVar[BotKind]
    BOT_KIND_CODE_COMPLETION: _ClassVar[BotKind]
BOT_KIND_UNSPECIFIED: BotKind
BOT_KIND_FAQ: BotKind
BOT_KIND_SUPPORT: BotKind
BOT_KIND_CODE_COMPLETION: BotKind

class Bot(_message.Message):
    __slots__ = ("name", "kind", "base_model", "display_name", "system_prompt", "generation_defaults", "quality_gate", "routes", "create_time", "refusal_text", "unanswerable_questions", "style_rules", "answer_schema")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_GATE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_TEXT_FIELD_NUMBER: _ClassVar[int]
    UNANSWERABLE_QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    STYLE_RULES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: BotKind
    base_model: str
    display_name: str
    system_prompt: str
    generation_defaults: GenerationDefaults
    quality_gate: QualityGate
    routes: Routes
    create_time: _timestamp_pb2.Timestamp
    refusal_text: str
    unanswerable_questions: _containers.RepeatedScalarFieldContainer[str]
    style_rules: StyleRules
    answer_schema: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[BotKind, str]] = ..., base_model: _Optional[str] = ..., display_name: _Optional[str] = ..., system_prompt: _Optional[str] = ..., generation_defaults: _Optional[_Union[GenerationDefaults, _Mapping]] = ..., quality_gate: _Optional[_Union[QualityGate, _Mapping]] = ..., routes: _Optional[_Union[Routes, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refusal_text: _Optional[str] = ..., unanswerable_questions: _Optional[_Iterable[str]] = ..., style_rules: _Optional[_Union[StyleRules, _Mapping]] = ..., answer_schema: _Optional[str] = ...) -> None: ...

class StyleRules(_message.Message):
    __slots__ = ("greetings", "closings", "forms_of_address", "forbidden_words", "min_chars", "max_chars")
    GREETINGS_FIELD_NUMBER: _ClassVar[int]
    CLOSINGS_FIELD_NUMBER: _ClassVar[int]
    FORMS_OF_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FORBIDDEN_WORDS_FIELD_NUMBER: _ClassVar[int]
    MIN_CHARS_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARS_FIELD_NUMBER: _ClassVar[int]
    greetings: _containers.RepeatedScalarFieldContainer[str]
    closings: _containers.RepeatedScalarFieldContainer[str]
    forms_of_address: _containers.RepeatedScalarFieldContainer[str]
    forbidden_words: _containers.RepeatedScalarFieldContainer[str]
    min_chars: int
    max_chars: int
    def __init__(self, greetings: _Optional[_Iterable[str]] = ..., closings: _Optional[_Iterable[str]] = ..., forms_of_address: _Optional[_Iterable[str]] = ..., forbidden_words: _Optional[_Iterable[str]] = ..., min_chars: _Optional[int] = ..., max_chars: _Optional[int] = ...) -> None: ...

class GenerationDefaults(_message.Message):
    __slots__ = ("max_output_tokens", "temperature", "top_p")
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    max_output_tokens: int
    temperature: float
    top_p: float
    def __init__(self, max_output_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ...) -> None: ...

class QualityGate(_message.Message):
    __slots__ = ("max_loss_ratio", "min_gain", "max_general_loss_rise", "max_false_refusals", "max_pass_fall")
    MAX_LOSS_RATIO_FIELD_NUMBER: _ClassVar[int]
    MIN_GAIN_FIELD_NUMBER: _ClassVar[int]
    MAX_GENERAL_LOSS_RISE_FIELD_NUMBER: _ClassVar[int]
    MAX_FALSE_REFUSALS_FIELD_NUMBER: _ClassVar[int]
    MAX_PASS_FALL_FIELD_NUMBER: _ClassVar[int]
    max_loss_ratio: float
    min_gain: float
    max_general_loss_rise: float
    max_false_refusals: float
    max_pass_fall: float
    def __init__(self, max_loss_ratio: _Optional[float] = ..., min_gain: _Optional[float] = ..., max_general_loss_rise: _Optional[float] = ..., max_false_refusals: _Optional[float] = ..., max_pass_fall: _Optional[float] = ...) -> None: ...

class CanaryEnd(_message.Message):
    __slots__ = ("version", "reason", "time")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    version: str
    reason: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, version: _Optional[str] = ..., reason: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Routes(_message.Message):
    __slots__ = ("production", "previous", "canary", "canary_percent", "canary_end", "shadow", "shadow_percent", "etag")
    PRODUCTION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    CANARY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    CANARY_END_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SHADOW_PERCENT_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    production: str
    previous: str
    canary: str
    canary_percent: int
    canary_end: CanaryEnd
    shadow: str
    shadow_percent: int
    etag: str
    def __init__(self, production: _Optional[str] = ..., previous: _Optional[str] = ..., canary: _Optional[str] = ..., canary_percent: _Optional[int] = ..., canary_end: _Optional[_Union[CanaryEnd, _Mapping]] = ..., shadow: _Optional[str] = ..., shadow_percent: _Optional[int] = ..., etag: _Optional[str] = ...) -> None: ...
