"""The story of one conversation's next turn: route, render, generate."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from adaptory.core.auth import Caller
from adaptory.core.names import BotName, VersionName
from adaptory.core.prompting import Message
from serve_svc.deadline import Deadline
from serve_svc.engine.engine import GeneratedToken
from serve_svc.generation import Finish, Generation, Prompt
from serve_svc.prompts import ChatOptions, Prompts
from serve_svc.routing import Route, Router
from serve_svc.shadow import Shadows
from serve_svc.token_tape import TokenTape


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A conversation for a bot or one of its versions to go on with; all requests of one `key` are answered alike."""

    name: BotName | VersionName
    messages: tuple[Message, ...]
    options: ChatOptions
    key: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """The text that came next, with the tokens that begin in it where they are asked for; the last piece alone has a `finish`."""

    text: str
    finish: Finish | None
    tokens: tuple[GeneratedToken, ...] = ()


class Chat:
    """Answers conversations."""

    def __init__(self, router: Router, prompts: Prompts, generation: Generation, shadows: Shadows) -> None:
        """Route by `router`, render by `prompts`; `shadows` are asked, too."""
        self._router = router
        self._prompts = prompts
        self._generation = generation
        self._shadows = shadows

    async def answer(self, call: ChatCall, caller: Caller, deadline: Deadline) -> AsyncGenerator[Piece, None]:
        """Stream the bot's next turn; the version it begins with answers to its end.

        Raises:
            NotFound, FailedPrecondition: As Router.route.
            InvalidRequest: As Prompts.fit.
            ServiceError: As Generation.run.
        """
        route = self._router.route(call.name, caller, call.key)
        async with aclosing(self._shadows.follow(route, partial(self._answer_by, call), deadline)) as pieces:
            async for piece in pieces:
                yield piece

    async def count_tokens(self, call: ChatCall, caller: Caller) -> int:
        """Return the tokens of the prompt that `answer` would make. Raises what Router.route raises."""
        route = self._router.route(call.name, caller, call.key)
        return len(await self._prompts.render(route.system_prompt, call.messages))

    async def _answer_by(self, call: ChatCall, route: Route, deadline: Deadline) -> AsyncGenerator[Piece, None]:
        async def make_prompt(route: Route) -> Prompt:
            ids = await self._prompts.render(route.system_prompt, call.messages)
            return Prompt(ids, self._prompts.fit(call.options, route.bot, len(ids)))

        tape = TokenTape()
        async with aclosing(self._generation.run(route, make_prompt, deadline)) as steps:
            async for step in steps:
                tape.add(step.tokens)
                finish = step.end(step.reason) if step.reason else None
                yield Piece(step.text, finish, tape.take(len(step.text)))
