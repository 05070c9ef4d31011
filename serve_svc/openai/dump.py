"""Turns answers into OpenAI's objects: one for a whole answer, or a chunk for each piece of a stream.

`model` is what the caller called the bot; which version answered is the `system_fingerprint` of the last chunks, or of the whole.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Protocol

from adaptory.core.fim import FimContext
from serve_svc.generation import Finish
from serve_svc.openai.parse import Form
from serve_svc.routing import RoutedBot

Json = Mapping[str, object]


class Reply(Protocol):
    """Says one answer in one of OpenAI's forms."""

    def begin(self) -> Iterator[Json]:
        """Yield the chunks before the first text."""

    def go_on(self, text: str) -> Json:
        """Return the chunk of a text."""

    def end(self, finish: Finish, context: FimContext | None) -> Iterator[Json]:
        """Yield the chunks behind the last text."""

    def whole(self, text: str, finish: Finish, context: FimContext | None) -> Json:
        """Return the whole answer as one object."""


class ChatReply:
    """Answers of POST /v1/chat/completions."""

    def __init__(self, form: Form) -> None:
        """Begin an answer now."""
        self._head = _Head("chatcmpl", form)

    def begin(self) -> Iterator[Json]:
        """Yield who speaks."""
        yield self._chunk({"role": "assistant", "content": ""})

    def go_on(self, text: str) -> Json:
        """Return what is said next."""
        return self._chunk({"content": text})

    def end(self, finish: Finish, context: FimContext | None) -> Iterator[Json]:  # noqa: ARG002 - a Reply's
        """Yield why it ended, and what it took if that was asked for."""
        yield self._chunk({}, finish)
        yield from self._head.count("chat.completion.chunk", finish)

    def whole(self, text: str, finish: Finish, context: FimContext | None) -> Json:  # noqa: ARG002 - a Reply's
        """Return the bot's turn."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish.reason}
        return self._head.whole("chat.completion", choice, finish)

    def _chunk(self, delta: Json, finish: Finish | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish.reason if finish else None}
        return self._head.chunk("chat.completion.chunk", choice, finish)


class CompletionReply:
    """Answers of POST /v1/completions; beside what OpenAI's have, `context` says how much of prompt and suffix was not read."""

    def __init__(self, form: Form) -> None:
        """Begin an answer now."""
        self._head = _Head("cmpl", form)

    def begin(self) -> Iterator[Json]:
        """Yield nothing: the first text is the first chunk."""
        yield from ()

    def go_on(self, text: str) -> Json:
        """Return the code that comes next."""
        return self._head.chunk("text_completion", _choose(text))

    def end(self, finish: Finish, context: FimContext | None) -> Iterator[Json]:
        """Yield why it ended, and what it took if that was asked for."""
        yield {**self._head.chunk("text_completion", _choose("", finish), finish), "context": _dump_context(context)}
        yield from self._head.count("text_completion", finish)

    def whole(self, text: str, finish: Finish, context: FimContext | None) -> Json:
        """Return the code between prompt and suffix."""
        answer = self._head.whole("text_completion", _choose(text, finish), finish)
        return {**answer, "context": _dump_context(context)}


class _Head:
    """What all objects of one answer begin with."""

    def __init__(self, prefix: str, form: Form) -> None:
        self._shows_usage = form.shows_usage
        self._fields = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": form.model}

    def chunk(self, kind: str, choice: Json, finish: Finish | None = None) -> Json:
        """Return a chunk; where usage was asked for, all chunks but the last have none."""
        return {**self._start(kind, finish), "choices": [choice], **({"usage": None} if self._shows_usage else {})}

    def count(self, kind: str, finish: Finish) -> Iterator[Json]:
        """Yield the chunk with the usage, if it was asked for."""
        if self._shows_usage:
            yield {**self._start(kind, finish), "choices": [], "usage": _dump_usage(finish)}

    def whole(self, kind: str, choice: Json, finish: Finish) -> Json:
        return {**self._start(kind, finish), "choices": [choice], "usage": _dump_usage(finish)}

    def _start(self, kind: str, finish: Finish | None) -> Json:
        return {**self._fields, "object": kind, "system_fingerprint": str(finish.version) if finish else None}


def dump_bot(bot: RoutedBot) -> Json:
    """Return a bot as a model; `kind` and `version`, which answers, are as in ListBots. When it was made is not known here."""
    return {
        "id": bot.name.bot,
        "object": "model",
        "created": 0,
        "owned_by": bot.name.tenant,
        "kind": bot.kind.value,
        "version": str(bot.production) if bot.production else None,
    }


def _choose(text: str, finish: Finish | None = None) -> Json:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish.reason if finish else None}


def _dump_usage(finish: Finish) -> Json:
    # Without details: how much of a prompt was cached would tell of other requests.
    return {
        "prompt_tokens": finish.num_prompt_tokens,
        "completion_tokens": finish.num_output_tokens,
        "total_tokens": finish.num_prompt_tokens + finish.num_output_tokens,
    }


def _dump_context(context: FimContext | None) -> Json | None:
    if context is None:
        return None
    return {
        "num_trimmed_prefix_chars": context.num_trimmed_prefix_chars,
        "num_trimmed_suffix_chars": context.num_trimmed_suffix_chars,
    }
