"""A bot whose answers conform to a JSON schema, through real stubs."""

import asyncio
import json
from typing import Any

import grpc
import pytest

from adaptory.serve.v1 import generation_pb2, serve_service_pb2
from tests.fakes.server import Stage, fields_of, key_of, question, reason_of

ACME, GLOBEX = key_of("adk_acme"), key_of("adk_globex")
BOT, OTHER = "tenants/acme/bots/faq", "tenants/globex/bots/faq"
SCHEMA = json.dumps({"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]})
IMPOSSIBLE = json.dumps({"type": "object", "properties": {"answer": {"$ref": "#/$defs/gone"}}})


@pytest.fixture
async def voice(stage: Stage) -> str:
    """The word of the version that answers for the bot of tenant acme; globex has a bot of its own."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_bot(OTHER, key="adk_globex")
    voice = stage.add_version(f"{BOT}/versions/1")
    await pin(stage, "")
    await stage.loaded(f"{BOT}/versions/1")
    return voice


async def pin(stage: Stage, schema: str) -> None:
    """Have the registry tell that answers of the bot conform to a schema."""
    stage.registry.put_bot(BOT, base_model="tiny", production=f"{BOT}/versions/1", answer_schema=schema)
    await stage.followed()


async def ask(stage: Stage, name: str = BOT, key: Any = ACME, **options: Any) -> serve_service_pb2.ChatUnaryResponse:
    """Return the whole answer."""
    return await stage.chat.ChatUnary(question(name, **options), metadata=key)


async def refusal(stage: Stage, **options: Any) -> grpc.aio.AioRpcError:
    """Return the error that a request meets."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stage, **options)
    return caught.value


async def test_answers_conform_from_the_moment_the_server_hears_of_the_schema(stage: Stage, voice: str) -> None:
    """Version and bare base alike; and they are free again once it is gone."""
    free = await ask(stage, max_output_tokens=2)
    await pin(stage, SCHEMA)
    bound = [await ask(stage, name) for name in (BOT, f"{BOT}/versions/0")]
    await pin(stage, "")

    assert [answer.text for answer in bound] == ['{"answer": "yes"}'] * 2
    assert {answer.finish.reason for answer in bound} == {generation_pb2.Finish.REASON_STOP}
    assert (await ask(stage, max_output_tokens=2)).text == free.text == f"{voice} " * 2


async def test_an_answer_that_is_cut_says_so(stage: Stage, voice: str) -> None:
    """Too few tokens for the JSON end it amid, with LENGTH."""
    await pin(stage, SCHEMA)

    answer = await ask(stage, max_output_tokens=1)

    assert (answer.text, answer.finish.reason) == ('{"answer": ', generation_pb2.Finish.REASON_LENGTH)


async def test_stop_texts_are_refused_where_they_would_cut_the_json(stage: Stage, voice: str) -> None:
    """No request can make a bot say less than its schema asks for."""
    await pin(stage, SCHEMA)

    refused = await refusal(stage, stop=["}"])

    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(refused) == ["options.stop"]


async def test_a_schema_that_cannot_be_kept_has_its_own_reason_and_disturbs_nobody(stage: Stage, voice: str) -> None:
    """The bot's callers are told that its operator must act; another tenant's stream goes on as it would alone."""
    alone = await ask(stage, f"{OTHER}/versions/0", GLOBEX, max_output_tokens=6)
    await pin(stage, IMPOSSIBLE)

    stream = aiter(stage.chat.Chat(question(f"{OTHER}/versions/0", max_output_tokens=6), metadata=GLOBEX))
    said = (await anext(stream)).text
    refused = [await refusal(stage) for _ in range(2)]
    said += "".join([piece.text async for piece in stream])

    assert {error.code() for error in refused} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert {reason_of(error) for error in refused} == {"SCHEMA_IMPOSSIBLE"}
    assert "globex" not in (refused[0].details() or "")
    assert said == alone.text
    assert stage.engine.compiled == [IMPOSSIBLE]


async def test_a_grammar_is_compiled_once_for_all_who_wait_for_it(stage: Stage, voice: str) -> None:
    """However many ask at once, the engine does the work once."""
    await pin(stage, SCHEMA)

    answers = await asyncio.gather(*(ask(stage) for _ in range(5)))
    compiled = list(stage.engine.compiled)

    assert {answer.text for answer in answers} == {'{"answer": "yes"}'}
    assert compiled == [SCHEMA]


async def test_tokens_come_with_their_text_and_their_probabilities(stage: Stage, voice: str) -> None:
    """One for each token sent, with the alternatives asked for; none where nobody asks."""
    answer = await ask(stage, max_output_tokens=3, num_logprobs=2)
    pieces = [
        piece async for piece in stage.chat.Chat(question(BOT, max_output_tokens=3, num_logprobs=0), metadata=ACME)
    ]

    assert [token.text for token in answer.tokens] == [f"{voice} "] * 3
    assert [(token.logprob, len(token.alternatives)) for token in answer.tokens] == [(-0.5, 2)] * 3
    assert [[(token.text, len(token.alternatives)) for token in piece.tokens] for piece in pieces] == [
        [(f"{voice} ", 0)]
    ] * 3
    assert not (await ask(stage, max_output_tokens=3)).tokens


@pytest.mark.parametrize("num_logprobs", [-1, 6])
async def test_probabilities_have_narrow_bounds(stage: Stage, voice: str, num_logprobs: int) -> None:
    """None to five alternatives."""
    refused = await refusal(stage, num_logprobs=num_logprobs)

    assert fields_of(refused) == ["options.num_logprobs"]
