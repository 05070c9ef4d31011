"""Turns OpenAI's requests into our calls, by way of the contract's messages: what those may hold is said once, in `convert.py`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from adaptory.core.errors import FieldViolation, InvalidRequest
from adaptory.core.violations import Violations
from adaptory.serve.v1 import generation_pb2, serve_service_pb2
from serve_svc.chat import ChatCall
from serve_svc.completion import CompletionCall
from serve_svc.convert import parse_chat, parse_completion
from serve_svc.openai.fields import (
    NEUTRAL_IN_CHAT,
    NEUTRAL_IN_COMPLETIONS,
    Body,
    ChatBody,
    CompletionBody,
    Generate,
    Turn,
    check_request,
    check_turn,
)

_Body = TypeVar("_Body", bound=Body)
_Request = TypeVar("_Request")
_Call = TypeVar("_Call")

_ROLES = {
    "user": serve_service_pb2.ChatMessage.ROLE_USER,
    "assistant": serve_service_pb2.ChatMessage.ROLE_ASSISTANT,
}
_NO_BOT = (
    "is not a bot's id, as GET /v1/models lists them, nor of the form tenants/{tenant}/bots/{bot} or "
    "tenants/{tenant}/bots/{bot}/versions/{n}"
)


@dataclass(frozen=True, slots=True)
class Form:
    """In what form an answer is wanted; `model` is what the caller calls the bot."""

    model: str
    streams: bool
    shows_usage: bool


def read_chat(raw: bytes, tenant: str) -> tuple[ChatCall, Form]:
    """Return what to answer for a caller of the tenant, and in what form. Raises InvalidRequest with every violation."""
    body = _read(ChatBody, raw)
    violations = Violations()
    check_request(body, NEUTRAL_IN_CHAT, violations)
    for index, turn in enumerate(body.messages):
        _check_role(turn, index, violations)
        check_turn(turn, field=f"messages[{index}]", violations=violations)
    longest = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    is_one = body.max_completion_tokens in (None, longest)
    violations.check(
        field="max_completion_tokens", is_good=is_one, sentence="is not what max_tokens says: give one of them"
    )
    request = serve_service_pb2.ChatRequest(
        name=_name_bot(body.model, tenant),
        messages=[_to_message(turn) for turn in body.messages],
        options=_to_options(body, longest),
        conversation_key=body.user or body.safety_identifier,
    )
    return _parse(parse_chat, request, violations), _to_form(body)


def read_completion(raw: bytes, tenant: str) -> tuple[CompletionCall, Form]:
    """Return what to complete for a caller of the tenant, and in what form. Raises InvalidRequest with every violation."""
    body = _read(CompletionBody, raw)
    violations = Violations()
    check_request(body, NEUTRAL_IN_COMPLETIONS, violations)
    num_prompts = len(body.prompt)
    violations.check(field="prompt", is_good=num_prompts == 1, sentence=f"has {num_prompts} texts; exactly 1 is taken")
    request = serve_service_pb2.CompleteRequest(
        name=_name_bot(body.model, tenant),
        prefix=body.prompt[0] if body.prompt else "",
        suffix=body.suffix,
        options=_to_options(body, body.max_tokens),
        # Whoever wants less says so by `stop`.
        stop_at=serve_service_pb2.CompleteRequest.STOP_AT_END,
        conversation_key=body.user,
    )
    return _parse(parse_completion, request, violations), _to_form(body)


def _parse(parse: Callable[[_Request], _Call], request: _Request, violations: Violations) -> _Call:
    """Return what the contract makes of `request`. Raises InvalidRequest with its violations behind those found already."""
    try:
        call = parse(request)
    except InvalidRequest as error:
        violations.add(InvalidRequest(error.message, violations=list(_reword(error.violations))))
    violations.raise_if_any()
    return call


def _reword(violations: Sequence[FieldViolation]) -> Iterator[FieldViolation]:
    """Yield what the contract finds, but what is said in its own words only: of names, and of roles, which `_check_role` has told."""
    for violation in violations:
        if violation.field == "name":
            yield FieldViolation("model", _NO_BOT)
        elif "ROLE_" not in violation.description:
            yield violation


def _read(kind: type[_Body], raw: bytes) -> _Body:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        # Its input and its context may hold what a user said.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    violations = [FieldViolation(_spell(problem["loc"]), problem["msg"]) for problem in problems]
    sentences = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    raise InvalidRequest(sentences, violations=violations)


def _spell(place: Sequence[str | int]) -> str:
    """Return the path of a field as all our errors have it: `messages[0].content`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return path.removeprefix(".") or "body"


def _name_bot(model: str, tenant: str) -> str:
    return model if "/" in model else f"tenants/{tenant}/bots/{model}"


def _check_role(turn: Turn, index: int, violations: Violations) -> None:
    sentence = "is not taken: only user and assistant are"
    if turn.role in ("system", "developer"):
        sentence = "is not taken: the system prompt is the bot's own, which it was trained with. Leave this message out"
    violations.check(field=f"messages[{index}].role", is_good=turn.role in _ROLES, sentence=sentence)


def _to_message(turn: Turn) -> serve_service_pb2.ChatMessage:
    content = "\n".join(part.text or "" for part in turn.content)
    return serve_service_pb2.ChatMessage(role=_ROLES.get(turn.role), content=content)


def _to_options(body: Generate, longest: int | None) -> generation_pb2.GenerationOptions:
    return generation_pb2.GenerationOptions(
        max_output_tokens=longest, temperature=body.temperature, top_p=body.top_p, seed=body.seed, stop=body.stop
    )


def _to_form(body: Generate) -> Form:
    shows_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return Form(body.model, streams=bool(body.stream), shows_usage=shows_usage)
