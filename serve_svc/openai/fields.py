"""What a request may hold: the fields that are read, and the others that OpenAI knows, with the values that ask for nothing."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adaptory.core.violations import Violations

_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

# Of fields that are known but not served: the values that mean what is done anyway. Clients send them unasked, so they are taken, and
# any other value is refused by name, since an answer that leaves it out is not the one that was asked for.
_NEUTRAL_ANYWHERE: Mapping[str, tuple[object, ...]] = {
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
    "n": (1,),
    "presence_penalty": (0, 0.0),
}
NEUTRAL_IN_CHAT: Mapping[str, tuple[object, ...]] = {
    **_NEUTRAL_ANYWHERE,
    "audio": (),
    "function_call": ("none", "auto"),  # without functions both mean that none is called
    "functions": ([],),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (False, True),  # without tools neither has a meaning
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),  # as of function_call
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
NEUTRAL_IN_COMPLETIONS: Mapping[str, tuple[object, ...]] = {
    **_NEUTRAL_ANYWHERE,
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
}
_NEUTRAL_IN_TURN: Mapping[str, tuple[object, ...]] = {
    # what an answer of ours, or of OpenAI, has beside its text, when a client sends it back
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "refusal": (),
    "tool_calls": ([],),
    # the template has no place for who speaks beside the role
    "name": (),
}
# Notes of the caller's for its own books or caches: they change no answer, whatever they hold.
_NOTES = frozenset({"metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"})


class Body(BaseModel):
    """Anything in a request; null is as good as left out. What is not named here is looked at by `check_others`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False)

    def others(self) -> dict[str, Any]:
        """Return the fields that are not read, without those that are null."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


def _put_in_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _put_in_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_put_in_list)]
"""A text, or a list of them."""


class Part(Body):
    """A part of what is said; of type `text`, any other is refused."""

    type: str
    text: str | None = None


class Turn(Body):
    """A message of a conversation."""

    role: str
    content: Annotated[list[Part], BeforeValidator(_put_in_parts)]


class StreamOptions(Body):
    """What a stream has beside its text."""

    include_usage: bool | None = None


class Generate(Body):
    """What both kinds of requests have."""

    model: str
    max_tokens: int | None = Field(default=None, ge=-_INT32, le=_INT32)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(default=None, ge=-_INT64, le=_INT64)
    stop: Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


class ChatBody(Generate):
    """The body of POST /v1/chat/completions."""

    messages: list[Turn]
    max_completion_tokens: int | None = Field(default=None, ge=-_INT32, le=_INT32)
    safety_identifier: str | None = None


class CompletionBody(Generate):
    """The body of POST /v1/completions."""

    prompt: Texts
    suffix: str | None = None


def check_turn(turn: Turn, *, field: str, violations: Violations) -> None:
    """Note each thing of a message that is not served."""
    _check_others(turn, _NEUTRAL_IN_TURN, frozenset(), prefix=f"{field}.", violations=violations)
    for index, part in enumerate(turn.content):
        place = f"{field}.content[{index}]"
        is_text = part.type == "text"
        violations.check(field=f"{place}.type", is_good=is_text, sentence="is not taken: only parts of type text are")
        violations.check(field=f"{place}.text", is_good=not is_text or part.text is not None, sentence="is missing")
        if is_text:
            _check_others(part, {}, frozenset(), prefix=f"{place}.", violations=violations)


def check_request(body: Generate, neutral: Mapping[str, tuple[object, ...]], violations: Violations) -> None:
    """Note each field of a request that is not served, or that nobody knows."""
    _check_others(body, neutral, _NOTES, prefix="", violations=violations)
    if body.stream_options is not None:
        violations.check(field="stream_options", is_good=bool(body.stream), sentence="is only for a stream")
        unpadded = {"include_obfuscation": (False,)}
        _check_others(body.stream_options, unpadded, frozenset(), prefix="stream_options.", violations=violations)


def _check_others(
    body: Body, neutral: Mapping[str, tuple[object, ...]], notes: frozenset[str], *, prefix: str, violations: Violations
) -> None:
    for name, value in body.others().items():
        if name in notes:
            continue
        if name in neutral:
            is_good = any(type(value) is type(same) and value == same for same in neutral[name])
            sentence = "asks for what this server does not do: leave it out"
        else:
            # As OpenAI does: a misspelt field that nobody reads would be a wish silently not kept.
            is_good, sentence = False, "is not a field that is known here: leave it out"
        violations.check(field=f"{prefix}{_shorten(name)}", is_good=is_good, sentence=sentence)


def _shorten(name: str) -> str:
    """Return the name of a field for a message: who made it up may have made it long."""
    return name if len(name) <= 64 else f"{name[:64]}…"  # noqa: PLR2004 - longer than any that is known
