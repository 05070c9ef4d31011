"""The story of one completion: route, trim, render, generate, and stop at the line, the block or the end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from adaptory.core.auth import Caller
from adaptory.core.code_stop import CodeStop, StopAt, make_stop
from adaptory.core.errors import FailedPrecondition, InvalidRequest
from adaptory.core.fim import FimContext, FimRenderer
from adaptory.core.names import BotName, VersionName
from serve_svc.deadline import Deadline
from serve_svc.engine.engine import GeneratedToken, Sampling
from serve_svc.generation import Finish, Generation, Prompt, Step
from serve_svc.prompts import ChatOptions
from serve_svc.routing import BotKind, GenerationDefaults, Route, Router
from serve_svc.shadow import Shadows
from serve_svc.token_tape import TokenTape

# The longest completion unless the caller says otherwise: someone waits for it at every keystroke.
_MAX_OUTPUT_TOKENS = {StopAt.LINE: 64, StopAt.BLOCK: 256, StopAt.END: 512}
# A prompt must hold some code, or there is nothing to go on from.
_MIN_CODE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """Code around a cursor, for a bot or one of its versions to fill in; all requests of one `key` are answered alike."""

    name: BotName | VersionName
    prefix: str
    suffix: str
    stop_at: StopAt
    options: ChatOptions
    key: str = ""


@dataclass(frozen=True, slots=True)
class CompletionPiece:
    """The code that came next, with the tokens that begin in it where they are asked for.

    The last piece alone has a `finish`, and says in `context` what was read.
    """

    text: str
    finish: Finish | None
    context: FimContext | None
    tokens: tuple[GeneratedToken, ...] = ()


class Completion:
    """Fills in code."""

    def __init__(
        self,
        router: Router,
        renderer: FimRenderer,
        generation: Generation,
        shadows: Shadows,
        *,
        max_prompt_tokens: int,
        max_tokens: int,
    ) -> None:
        """Take the renderer that training used too; `max_tokens` is the engine's context, prompt and completion together."""
        self._router = router
        self._renderer = renderer
        self._generation = generation
        self._shadows = shadows
        self._max_prompt_tokens = max_prompt_tokens
        self._max_tokens = max_tokens

    async def complete(
        self, call: CompletionCall, caller: Caller, deadline: Deadline
    ) -> AsyncGenerator[CompletionPiece, None]:
        """Stream the code between prefix and suffix; the version it begins with answers to its end.

        Raises:
            NotFound, FailedPrecondition: As Router.route, and NOT_A_CODE_BOT.
            InvalidRequest: The context cannot hold what was asked for and some code before it.
            ServiceError: As Generation.run.
        """
        route = self._router.route(call.name, caller, call.key)
        _require_code_bot(route)
        async with aclosing(self._shadows.follow(route, partial(self._complete_by, call), deadline)) as pieces:
            async for piece in pieces:
                yield piece

    async def _complete_by(
        self, call: CompletionCall, route: Route, deadline: Deadline
    ) -> AsyncGenerator[CompletionPiece, None]:
        context, carried = FimContext("", ""), ""

        async def make_prompt(route: Route) -> Prompt:
            nonlocal context, carried
            sampling = self._choose_sampling(call, route.bot.defaults)
            room = route.tenant.quota.max_prompt_tokens or self._max_tokens
            context, ids = await asyncio.to_thread(self._render, call, sampling.max_tokens, room)
            carried = self._renderer.carry(context.prefix)
            return Prompt(ids, sampling)

        stop, tape = make_stop(call.stop_at, call.prefix, call.suffix), TokenTape()
        async with aclosing(self._generation.run(route, make_prompt, deadline)) as steps:
            async for step in steps:
                # What the caller has typed already comes again at the beginning, in one piece.
                text = step.text.removeprefix(carried)
                carried = "" if step.text else carried
                tape.add(step.tokens)
                tape.skip(len(step.text) - len(text))
                piece = _cut(replace(step, text=text), stop, context)
                piece = replace(piece, tokens=tape.take(len(piece.text)))
                if piece.text or piece.finish:
                    yield piece
                if stop.is_over:
                    return

    def _choose_sampling(self, call: CompletionCall, defaults: GenerationDefaults) -> Sampling:
        options = call.options
        most = self._max_tokens - self._renderer.count_form_tokens() - 1 - _MIN_CODE_TOKENS
        longest = min(defaults.max_output_tokens, _MAX_OUTPUT_TOKENS[call.stop_at], most)
        wanted = options.max_output_tokens or max(1, longest)
        if wanted > most:
            sentence = f"is {wanted}; the context of {self._max_tokens} tokens leaves at most {most} beside some code"
            raise InvalidRequest.of_field("options.max_output_tokens", sentence, max_output_tokens=wanted, most=most)
        return Sampling(
            max_tokens=wanted,
            temperature=defaults.temperature if options.temperature is None else options.temperature,
            top_p=defaults.top_p if options.top_p is None else options.top_p,
            seed=options.seed,
            stop=options.stop,
            stop_ids=self._renderer.stop_ids,
            num_logprobs=options.num_logprobs,
        )

    def _render(self, call: CompletionCall, max_output_tokens: int, room: int) -> tuple[FimContext, tuple[int, ...]]:
        """Trim the code to what the prompt may hold, at most `room`, and render it.

        A token is kept for the space that may come before a prefix, and some code in any case.
        """
        room = min(room, self._max_prompt_tokens, self._max_tokens - max_output_tokens)
        max_text_tokens = max(room - self._renderer.count_form_tokens() - 1, _MIN_CODE_TOKENS)
        context = self._renderer.fit_context(call.prefix, call.suffix, max_text_tokens)
        return context, self._renderer.render_prompt(context.prefix, context.suffix)


def _cut(step: Step, stop: CodeStop, context: FimContext) -> CompletionPiece:
    text = stop.take(step.text)
    if stop.is_over:
        return CompletionPiece(text, step.end("stop"), context)
    if step.reason:
        return CompletionPiece(text + stop.flush(), step.end(step.reason), context)
    return CompletionPiece(text, None, None)


def _require_code_bot(route: Route) -> None:
    if route.bot.kind is not BotKind.CODE_COMPLETION:
        raise FailedPrecondition(
            f"{route.bot.name} is of kind {route.bot.kind}; only bots of kind {BotKind.CODE_COMPLETION} complete code. "
            "Ask it by Chat.",
            reason="NOT_A_CODE_BOT",
            metadata={"bot": route.bot.name, "kind": route.bot.kind},
        )
