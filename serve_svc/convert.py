"""Turns ServeService's messages into values and back; everything wrong with a request is said here, all of it at once."""

import base64
import binascii
from collections.abc import Sequence

from adaptory.core.code_stop import StopAt
from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimContext
from adaptory.core.names import BotName, VersionName
from adaptory.core.prompting import Message, Role, check_conversation
from adaptory.core.violations import Violations
from adaptory.serve.v1 import generation_pb2, serve_service_pb2
from serve_svc.chat import ChatCall
from serve_svc.completion import CompletionCall
from serve_svc.engine.engine import GeneratedToken
from serve_svc.generation import Finish
from serve_svc.prompts import ChatOptions
from serve_svc.registry.convert import dump_kind
from serve_svc.routing import RoutedBot

_MAX_MESSAGES = 64
_MAX_CONTENT_CHARS = 32_000
_MAX_CODE_CHARS = 262_144
_MAX_KEY_CHARS = 256
_MAX_STOPS = 4
_MAX_STOP_CHARS = 64
_MAX_TEMPERATURE = 2.0
_MAX_LOGPROBS = 5
_DEFAULT_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1_000

_ROLES: dict[int, Role] = {
    serve_service_pb2.ChatMessage.ROLE_USER: "user",
    serve_service_pb2.ChatMessage.ROLE_ASSISTANT: "assistant",
}
_STOPS: dict[int, StopAt] = {
    serve_service_pb2.CompleteRequest.STOP_AT_UNSPECIFIED: StopAt.LINE,
    serve_service_pb2.CompleteRequest.STOP_AT_LINE: StopAt.LINE,
    serve_service_pb2.CompleteRequest.STOP_AT_BLOCK: StopAt.BLOCK,
    serve_service_pb2.CompleteRequest.STOP_AT_END: StopAt.END,
}


def parse_chat(request: serve_service_pb2.ChatRequest) -> ChatCall:
    """Return what to answer and how. Raises InvalidRequest with every violation."""
    violations = Violations()
    name = _parse_name(request.name, violations)
    messages = _parse_messages(request.messages, violations)
    options = _parse_options(request.options, violations)
    _check_key(request.conversation_key, violations)
    violations.raise_if_any()
    return ChatCall(name, messages, options, request.conversation_key or messages[0].content)


def parse_count(request: serve_service_pb2.CountTokensRequest) -> ChatCall:
    """Return the conversation to count. Raises InvalidRequest with every violation."""
    return parse_chat(serve_service_pb2.ChatRequest(name=request.name, messages=request.messages))


def parse_completion(request: serve_service_pb2.CompleteRequest) -> CompletionCall:
    """Return what to complete and how. Raises InvalidRequest with every violation."""
    violations = Violations()
    name = _parse_name(request.name, violations)
    violations.check_length(request.prefix, field="prefix", limit=_MAX_CODE_CHARS)
    violations.check_length(request.suffix, field="suffix", limit=_MAX_CODE_CHARS)
    is_known = request.stop_at in _STOPS
    violations.check(field="stop_at", is_good=is_known, sentence="must be STOP_AT_LINE, STOP_AT_BLOCK or STOP_AT_END")
    options = _parse_options(request.options, violations)
    _check_key(request.conversation_key, violations)
    violations.raise_if_any()
    key = request.conversation_key or request.prefix.partition("\n")[0]
    return CompletionCall(name, request.prefix, request.suffix, _STOPS[request.stop_at], options, key)


def _parse_name(name: str, violations: Violations) -> BotName | VersionName:
    try:
        if "/versions/" in name:
            return VersionName.parse(name, field="name")
        return BotName.parse(name, field="name")
    except InvalidRequest as error:
        violations.add(error)
        return BotName("", "")  # never used: the violations are raised before


def _check_key(key: str, violations: Violations) -> None:
    violations.check_length(key, field="conversation_key", limit=_MAX_KEY_CHARS)


def _parse_messages(turns: Sequence[serve_service_pb2.ChatMessage], violations: Violations) -> tuple[Message, ...]:
    num_turns = len(turns)
    violations.check(
        field="messages",
        is_good=num_turns <= _MAX_MESSAGES,
        sentence=f"has {num_turns} turns; at most {_MAX_MESSAGES} are taken: leave out the oldest",
    )
    for index, turn in enumerate(turns[:_MAX_MESSAGES]):
        field = f"messages[{index}]"
        violations.check(
            field=f"{field}.role", is_good=turn.role in _ROLES, sentence="must be ROLE_USER or ROLE_ASSISTANT"
        )
        violations.check(field=f"{field}.content", is_good=bool(turn.content), sentence="is empty")
        violations.check_length(turn.content, field=f"{field}.content", limit=_MAX_CONTENT_CHARS)
    if any(turn.role not in _ROLES for turn in turns):
        return ()
    messages = tuple(Message(_ROLES[turn.role], turn.content) for turn in turns)
    try:
        check_conversation(messages, field="messages")
    except InvalidRequest as error:
        violations.add(error)
    return messages


def _parse_options(options: generation_pb2.GenerationOptions, violations: Violations) -> ChatOptions:
    parsed = ChatOptions(
        max_output_tokens=options.max_output_tokens if options.HasField("max_output_tokens") else None,
        temperature=options.temperature if options.HasField("temperature") else None,
        top_p=options.top_p if options.HasField("top_p") else None,
        seed=options.seed if options.HasField("seed") else None,
        stop=tuple(options.stop),
        num_logprobs=options.num_logprobs if options.HasField("num_logprobs") else None,
    )
    # Written so that NaN, which compares false with everything, is refused.
    violations.check(
        field="options.max_output_tokens",
        is_good=parsed.max_output_tokens is None or parsed.max_output_tokens >= 1,
        sentence=f"is {parsed.max_output_tokens}; at least 1 is needed",
    )
    violations.check(
        field="options.temperature",
        is_good=parsed.temperature is None or 0 <= parsed.temperature <= _MAX_TEMPERATURE,
        sentence=f"is {parsed.temperature}; 0 to {_MAX_TEMPERATURE:.0f} are taken",
    )
    violations.check(
        field="options.top_p",
        is_good=parsed.top_p is None or 0 < parsed.top_p <= 1,
        sentence=f"is {parsed.top_p}; above 0 and up to 1 are taken",
    )
    violations.check(
        field="options.num_logprobs",
        is_good=parsed.num_logprobs is None or 0 <= parsed.num_logprobs <= _MAX_LOGPROBS,
        sentence=f"is {parsed.num_logprobs}; 0 to {_MAX_LOGPROBS} are taken",
    )
    violations.check(
        field="options.stop",
        is_good=len(parsed.stop) <= _MAX_STOPS,
        sentence=f"has {len(parsed.stop)} texts; at most {_MAX_STOPS} are taken",
    )
    for index, text in enumerate(parsed.stop[:_MAX_STOPS]):
        violations.check(
            field=f"options.stop[{index}]",
            is_good=1 <= len(text) <= _MAX_STOP_CHARS,
            sentence=f"has {len(text)} characters; 1 to {_MAX_STOP_CHARS} are taken",
        )
    return parsed


def dump_finish(finish: Finish) -> generation_pb2.Finish:
    """Return how an answer ended, as the contract says it."""
    return generation_pb2.Finish(
        reason=f"REASON_{finish.reason.upper()}",
        version=str(finish.version),
        digest=finish.digest,
        num_prompt_tokens=finish.num_prompt_tokens,
        num_output_tokens=finish.num_output_tokens,
        time_to_first_token_seconds=finish.time_to_first_token_s,
    )


def dump_tokens(tokens: Sequence[GeneratedToken]) -> list[generation_pb2.GeneratedToken]:
    """Return the tokens of a piece, as the contract says them."""
    return [
        generation_pb2.GeneratedToken(
            text=token.text, logprob=token.logprob, alternatives=dump_tokens(token.alternatives)
        )
        for token in tokens
    ]


def dump_context(context: FimContext) -> serve_service_pb2.CompletionContext:
    """Return what was read of the code around a cursor, as the contract says it."""
    return serve_service_pb2.CompletionContext(
        num_trimmed_prefix_chars=context.num_trimmed_prefix_chars,
        num_trimmed_suffix_chars=context.num_trimmed_suffix_chars,
    )


def page_bots(
    request: serve_service_pb2.ListBotsRequest, bots: Sequence[RoutedBot], resident: frozenset[str]
) -> serve_service_pb2.ListBotsResponse:
    """Return the page of `bots`, which are sorted by id; `resident` names the versions in the engine. Raises InvalidRequest."""
    if request.page_size < 0:
        raise InvalidRequest.of_field(
            "page_size", f"is {request.page_size}; 0 or more is taken", page_size=request.page_size
        )
    size = min(request.page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
    last = _parse_page_token(request.page_token)
    rest = [bot for bot in bots if bot.name.bot > last]
    return serve_service_pb2.ListBotsResponse(
        bots=[_dump_bot(bot, resident) for bot in rest[:size]],
        next_page_token=_dump_page_token(rest[size - 1].name.bot) if len(rest) > size else "",
    )


def _dump_bot(bot: RoutedBot, resident: frozenset[str]) -> serve_service_pb2.ServedBot:
    version = str(bot.production) if bot.production else ""
    return serve_service_pb2.ServedBot(
        name=str(bot.name), kind=dump_kind(bot.kind), version=version, resident=version in resident
    )


def _dump_page_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _parse_page_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidRequest.of_field("page_token", "is not one that ListBots gave; begin without it") from error
