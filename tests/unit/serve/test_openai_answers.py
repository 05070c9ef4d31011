"""OpenAI's interface, through OpenAI's own client: the same answers as over gRPC, in its forms."""

from typing import Any

import pytest
from openai import AsyncOpenAI

from adaptory.core.names import VersionName
from serve_svc.conversations import falls_to
from tests.fakes.openai_caller import BOT, CODE, ask
from tests.fakes.server import Stage, key_of, question, tiny_fim_renderer


async def test_models_are_the_callers_bots(client: AsyncOpenAI) -> None:
    """Their ids are what a request calls them by; nobody sees another tenant's."""
    models = [model async for model in client.models.list()]
    one = await client.models.retrieve(BOT)

    assert [model.id for model in models] == ["code", "faq"]
    assert {model.owned_by for model in models} == {"acme"}
    assert one == models[1]
    assert (one.model_extra or {})["version"] == f"{BOT}/versions/1"


@pytest.mark.parametrize("model", ["faq", BOT, f"{BOT}/versions/1"])
async def test_a_bot_answers_by_each_of_its_names(openai_stage: Stage, client: AsyncOpenAI, model: str) -> None:
    """Its id, its full name, or a version's; the fingerprint says which version it was, and the usage is counted."""
    over_grpc = await openai_stage.chat.ChatUnary(question(BOT, max_output_tokens=3), metadata=key_of("adk_acme"))

    answer = await client.chat.completions.create(model=model, messages=ask(), max_completion_tokens=3)

    assert answer.choices[0].message.content == over_grpc.text
    assert (answer.choices[0].finish_reason, answer.model) == ("length", model)
    assert answer.system_fingerprint == over_grpc.finish.version == f"{BOT}/versions/1"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == over_grpc.finish.num_prompt_tokens
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (3, answer.usage.prompt_tokens + 3)


async def test_a_stream_comes_chunk_by_chunk(openai_stage: Stage, client: AsyncOpenAI) -> None:
    """Who speaks, each piece as it comes, why it ended; the usage in a chunk of its own where it was asked for."""
    openai_stage.engine.speech = ("We open ", "at ", "nine.")
    stream = await client.chat.completions.create(
        model="faq", messages=ask(), stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert [delta.content for delta in deltas] == ["", "We open ", "at ", "nine.", None]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * 5
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.completion_tokens) == ([], 3)
    assert chunks[-1].system_fingerprint == f"{BOT}/versions/1"


async def test_a_piece_is_sent_before_the_next_is_there(openai_stage: Stage, client: AsyncOpenAI) -> None:
    """The first words are read while the engine stands still behind them; no usage comes unasked."""
    openai_stage.engine.pause_after(1)
    stream = await client.chat.completions.create(model="faq", messages=ask(), max_tokens=2, stream=True)
    chunks = aiter(stream)
    first = [await anext(chunks), await anext(chunks)]

    openai_stage.engine.go_on()
    rest = [chunk async for chunk in chunks]

    assert first[1].choices[0].delta.content
    assert len(rest) == 2
    assert all(chunk.usage is None for chunk in (*first, *rest))


async def test_the_engine_is_asked_the_same_as_over_grpc(openai_stage: Stage, client: AsyncOpenAI) -> None:
    """Prompt, sampling and cache are one path's; parts of text and a former answer are taken as the client gives them back."""
    turns = ("A room, please.", "For whom?", "For two.\nOn Monday.")
    wishes = {"temperature": 0.25, "top_p": 0.5, "seed": 7, "stop": ["x"]}
    await openai_stage.chat.ChatUnary(question(BOT, *turns, max_output_tokens=2, **wishes), metadata=key_of("adk_acme"))
    openai_stage.engine.speech = ("For whom?",)
    before = await client.chat.completions.create(model="faq", messages=ask(turns[0]))

    parts = [{"type": "text", "text": "For two."}, {"type": "text", "text": "On Monday."}]
    messages = [*ask(turns[0]), before.choices[0].message.model_dump(), {"role": "user", "content": parts}]
    await client.chat.completions.create(
        model="faq", messages=messages, max_tokens=2, temperature=0.25, top_p=0.5, seed=7, stop="x"
    )

    over_grpc, _, over_http = openai_stage.engine.requests
    assert over_http.prompt_ids == over_grpc.prompt_ids
    assert over_http.sampling == over_grpc.sampling
    assert (over_http.cache_salt, over_http.adapter) == (over_grpc.cache_salt, over_grpc.adapter)


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
async def test_a_canary_keeps_its_users(openai_stage: Stage, client: AsyncOpenAI, field: str) -> None:
    """Whoever asks as the same user is answered by the same version, the one that gRPC's key would choose."""
    canary = f"{BOT}/versions/2"
    openai_stage.add_version(canary)
    openai_stage.try_canary(canary, 50, production=f"{BOT}/versions/1")
    await openai_stage.followed()
    users = [f"user-{number}" for number in range(8)]
    wishes: list[dict[str, Any]] = [{field: user} for user in users]

    answers = [
        await client.chat.completions.create(model="faq", messages=ask(), max_tokens=1, **wish) for wish in wishes
    ]

    chosen = {user: answer.system_fingerprint for user, answer in zip(users, answers, strict=True)}
    assert chosen == {
        user: canary if falls_to(VersionName.parse(canary, field=""), 50, user) else f"{BOT}/versions/1"
        for user in users
    }
    assert len(set(chosen.values())) == 2


async def test_a_code_bot_completes_between_prompt_and_suffix(openai_stage: Stage, client: AsyncOpenAI) -> None:
    """Prompt and suffix are rendered as in training; it goes on to the bot's own end, and says how much was read."""
    openai_stage.engine.speech = ("return 1\n", "\nf()\n")
    prefix, suffix = "def f():\n    ", "\nprint(f())\n"

    answer = await client.completions.create(model="code", prompt=prefix, suffix=suffix)

    assert answer.choices[0].text == "return 1\n\nf()\n"
    assert (answer.choices[0].finish_reason, answer.system_fingerprint) == ("stop", f"{CODE}/versions/1")
    assert openai_stage.engine.requests[-1].prompt_ids == tiny_fim_renderer().render_prompt(prefix, suffix)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    nothing = {"num_trimmed_prefix_chars": 0, "num_trimmed_suffix_chars": 0}
    assert (answer.model_extra or {})["context"] == nothing


async def test_a_completion_streams(openai_stage: Stage, client: AsyncOpenAI) -> None:
    """Each piece as it comes, then why it ended and how much was read, then the usage."""
    openai_stage.engine.speech = ("a", "b")
    stream = await client.completions.create(
        model="code", prompt=["x = "], stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    assert [chunk.choices[0].text for chunk in chunks[:-1]] == ["a", "b", ""]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, "stop"]
    assert (chunks[-2].model_extra or {})["context"]["num_trimmed_prefix_chars"] == 0
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


async def test_what_clients_send_unasked_changes_nothing(client: AsyncOpenAI) -> None:
    """Fields that are not served are taken in the value that asks for nothing, and so are a caller's own notes."""
    answer = await client.chat.completions.create(
        model="faq",
        messages=ask(),
        max_tokens=1,
        n=1,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        logprobs=False,
        tools=[],
        tool_choice="none",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        service_tier="auto",
        store=False,
        metadata={"trace": "1"},
        prompt_cache_key="k",
        stop=None,
    )

    assert answer.choices[0].message.content
