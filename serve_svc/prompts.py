"""Makes a request's prompt and says how long its answer may be: the base's renderer, and the engine's context."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from adaptory.core.errors import InvalidRequest
from adaptory.core.prompting import Message, Renderer
from serve_svc.engine.engine import Sampling
from serve_svc.routing import RoutedBot

# About a millisecond of tokenising: what is longer would hold up every other stream.
_MAX_INLINE_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How the caller wants its answer; None takes the bot's default."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    num_logprobs: int | None = None


class Prompts:
    """Renders for one base, within `max_tokens` of prompt and answer together."""

    def __init__(self, renderer: Renderer, max_tokens: int) -> None:
        """Take the renderer that training used too."""
        self._renderer = renderer
        self.max_tokens = max_tokens

    async def render(self, system_prompt: str, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of the conversation behind its system turn, ready for the bot's next turn."""
        turns = [Message("system", system_prompt), *messages] if system_prompt else list(messages)
        if sum(len(turn.content) for turn in turns) <= _MAX_INLINE_CHARS:
            return self._renderer.render_prompt(turns)
        return await asyncio.to_thread(self._renderer.render_prompt, turns)

    def fit(self, options: ChatOptions, bot: RoutedBot, num_prompt_tokens: int) -> Sampling:
        """Return how to sample for this bot.

        Raises InvalidRequest when the context cannot hold the prompt and what was asked for behind it, and for stop texts that would
        cut an answer which has to conform to a schema.
        """
        if bot.answer_schema and options.stop:
            sentence = (
                f"is not taken by {bot.name}, whose answers conform to its answer_schema: a stop text would cut them"
            )
            raise InvalidRequest.of_field("options.stop", sentence, bot=bot.name)
        defaults, left = bot.defaults, self.max_tokens - num_prompt_tokens
        wanted = options.max_output_tokens or 1
        if left < wanted:
            raise InvalidRequest.of_field(
                "messages",
                f"take {num_prompt_tokens} tokens as a prompt; with {wanted} for the answer that is more than the "
                f"{self.max_tokens} of the context: leave out the oldest turns, or lower options.max_output_tokens",
                num_prompt_tokens=num_prompt_tokens,
                max_output_tokens=wanted,
                max_tokens=self.max_tokens,
            )
        return Sampling(
            max_tokens=options.max_output_tokens or min(defaults.max_output_tokens, left),
            temperature=defaults.temperature if options.temperature is None else options.temperature,
            top_p=defaults.top_p if options.top_p is None else options.top_p,
            seed=options.seed,
            stop=options.stop,
            answer_schema=bot.answer_schema,
            num_logprobs=options.num_logprobs,
        )
