from adaptory.registry.v1 import bot_pb2 as _bot_pb2
from adaptory.serve.v1 import generation_pb2 as _generation_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[ChatMessage.Role]
        ROLE_USER: _ClassVar[ChatMessage.Role]
        ROLE_ASSISTANT: _ClassVar[ChatMessage.Role]
    ROLE_UNSPECIFIED: ChatMessage.Role
    ROLE_USER: ChatMessage.Role
    ROLE_ASSISTANT: ChatMessage.Role
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: ChatMessage.Role
    content: str
    def __init__(self, role: _Optional[_Union[ChatMessage.Role, str]] = ..., content: _Optional[str] = ...) -> None: ...

class ChatRequest(_message.Message):
    __slots__ = ("name", "messages", "options", "conversation_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    options: _generation_pb2.GenerationOptions
    conversation_key: str
    def __init__(self, name: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., options: _Optional[_Union[_generation_pb2.GenerationOptions, _Mapping]] = ..., conversation_key: _Optional[str] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("text", "finish", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.Finish
    tokens: _containers.RepeatedCompositeFieldContainer[_generation_pb2.GeneratedToken]
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_generation_pb2.GeneratedToken, _Mapping]]] = ...) -> None: ...

class ChatUnaryResponse(_message.Message):
    __slots__ = ("text", "finish", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.Finish
    tokens: _containers.RepeatedCompositeFieldContainer[_generation_pb2.GeneratedToken]
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_generation_pb2.GeneratedToken, _Mapping]]] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("name", "prefix", "suffix", "options", "stop_at", "conversation_key")
    class StopAt(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STOP_AT_UNSPECIFIED: _ClassVar[CompleteRequest.StopAt]
        STOP_AT_LINE: _ClassVar[CompleteRequest.StopAt]
        STOP_AT_BLOCK: _ClassVar[CompleteRequest.StopAt]
        STOP_AT_END: _ClassVar[CompleteRequest.StopAt]
    STOP_AT_UNSPECIFIED: CompleteRequest.StopAt
    STOP_AT_LINE: CompleteRequest.StopAt
    STOP_AT_BLOCK: CompleteRequest.StopAt
    STOP_AT_END: CompleteRequest.StopAt
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    prefix: str
    suffix: str
    options: _generation_pb2.GenerationOptions
    stop_at: CompleteRequest.StopAt
    conversation_key: str
    def __init__(self, name: _Optional[str] = ..., prefix: _Optional[str] = ..., suffix: _Optional[str] = ..., options: _Optional[_Union[_generation_pb2.GenerationOptions, _Mapping]] = ..., stop_at: _Optional[_Union[CompleteRequest.StopAt, str]] = ..., conversation_key: _Optional[str] = ...) -> None: ...

class CompletionContext(_message.Message):
    __slots__ = ("num_trimmed_prefix_chars", "num_trimmed_suffix_chars")
    NUM_TRIMMED_PREFIX_CHARS_FIELD_NUMBER: _ClassVar[int]
    NUM_TRIMMED_SUFFIX_CHARS_FIELD_NUMBER: _ClassVar[int]
    num_trimmed_prefix_chars: int
    num_trimmed_suffix_chars: int
    def __init__(self, num_trimmed_prefix_chars: _Optional[int] = ..., num_trimmed_suffix_chars: _Optional[int] = ...) -> None: ...

class CompleteResponse(_message.Message):
    __slots__ = ("text", "finish", "context", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.Finish
    context: CompletionContext
    tokens: _containers.RepeatedCompositeFieldContainer[_generation_pb2.GeneratedToken]
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ..., context: _Optional[_Union[CompletionContext, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_generation_pb2.GeneratedToken, _Mapping]]] = ...) -> None: ...

class CompleteUnaryResponse(_message.Message):
    __slots__ = ("text", "finish", "context", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.Finish
    context: CompletionContext
    tokens: _containers.RepeatedCompositeFieldContainer[_generation_pb2.GeneratedToken]
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ..., context: _Optional[_Union[CompletionContext, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_generation_pb2.GeneratedToken, _Mapping]]] = ...) -> None: ...

class ListBotsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBotsResponse(_message.Message):
    __slots__ = ("bots", "next_page_token")
    BOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    bots: _containers.RepeatedCompositeFieldContainer[ServedBot]
    next_page_token: str
    def __init__(self, bots: _Optional[_Iterable[_Union[ServedBot, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ServedBot(_message.Message):
    __slots__ = ("name", "kind", "version", "resident")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _bot_pb2.BotKind
    version: str
    resident: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_bot_pb2.BotKind, str]] = ..., version: _Optional[str] = ..., resident: _Optional[bool] = ...) -> None: ...

class CountTokensRequest(_message.Message):
    __slots__ = ("name", "messages")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, name: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class CountTokensResponse(_message.Message):
    __slots__ = ("num_tokens", "max_tokens")
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    num_tokens: int
    max_tokens: int
    def __init__(self, num_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ...) -> None: ...
