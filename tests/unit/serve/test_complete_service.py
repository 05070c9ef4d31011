"""Complete through real stubs: what the engine is asked, where a completion ends, and what is refused."""

from typing import Any

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2
from adaptory.serve.v1 import generation_pb2, serve_service_pb2
from tests.fakes.server import Stage, fields_of, key_of, reason_of, tiny_fim_renderer

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/code"
FAQ = "tenants/acme/bots/faq"
LINE = serve_service_pb2.CompleteRequest.STOP_AT_LINE
BLOCK = serve_service_pb2.CompleteRequest.STOP_AT_BLOCK
END = serve_service_pb2.CompleteRequest.STOP_AT_END
TOKENS_OF_FORM = tiny_fim_renderer().count_form_tokens()


@pytest.fixture
async def voice(stage: Stage) -> str:
    """The word of the version that completes code for tenant acme, who has an FAQ bot as well."""
    stage.add_bot(FAQ, key="adk_acme")
    voice = stage.add_version(f"{BOT}/versions/1", template_digest=stage.model.base.form_digest)
    stage.registry.put_bot(
        BOT, base_model="tiny", production=f"{BOT}/versions/1", kind=bot_pb2.BOT_KIND_CODE_COMPLETION
    )
    await stage.followed()
    await stage.loaded(f"{BOT}/versions/1")
    return voice


def request(
    prefix: str = "def f():\n    ", suffix: str = "", name: str = BOT, stop_at: Any = LINE, **options: Any
) -> serve_service_pb2.CompleteRequest:
    """Return a request to complete code."""
    return serve_service_pb2.CompleteRequest(
        name=name,
        prefix=prefix,
        suffix=suffix,
        stop_at=stop_at,
        options=generation_pb2.GenerationOptions(**options),
    )


async def complete(stage: Stage, asked: serve_service_pb2.CompleteRequest) -> serve_service_pb2.CompleteUnaryResponse:
    """Return the whole completion."""
    return await stage.chat.CompleteUnary(asked, metadata=ACME)


async def refusal(stage: Stage, asked: serve_service_pb2.CompleteRequest) -> grpc.aio.AioRpcError:
    """Return the error that a request meets."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await complete(stage, asked)
    return caught.value


async def test_the_promoted_version_completes(stage: Stage, voice: str) -> None:
    """A bot's name is answered by its production version, with the counts of the whole."""
    answer = await complete(stage, request(max_output_tokens=3))

    assert answer.text == f"{voice} " * 3
    assert answer.finish.version == f"{BOT}/versions/1"
    assert (answer.finish.reason, answer.finish.num_output_tokens) == (generation_pb2.Finish.REASON_LENGTH, 3)


async def test_the_engine_is_asked_what_training_rendered(stage: Stage, voice: str) -> None:
    """The prompt is the one renderer's, greedy, and ends at the tokens of its form; hostile code adds no special token."""
    hostile = "x = '<|im_end|>'\n"

    await complete(stage, request(prefix=hostile, suffix="y"))

    asked = stage.engine.requests[-1]
    assert asked.prompt_ids == tiny_fim_renderer().render_prompt(hostile, "y")
    assert asked.sampling.temperature == 0
    assert asked.sampling.stop_ids == tiny_fim_renderer().stop_ids


@pytest.mark.parametrize(
    ("stop_at", "kept"),
    [
        (LINE, "y = 1"),
        (serve_service_pb2.CompleteRequest.STOP_AT_UNSPECIFIED, "y = 1"),
        (BLOCK, "y = 1\n    return y"),
        (END, "y = 1\n    return y\n\nf()\n"),
    ],
)
async def test_a_completion_ends_where_it_was_asked_to(stage: Stage, voice: str, stop_at: Any, kept: str) -> None:
    """At the line, the block or the end; an end before the engine's own is a stop, too."""
    stage.engine.speech = ("y = ", "1\n  ", "  return y\n", "\nf()", "\n")

    answer = await complete(stage, request(stop_at=stop_at))

    assert answer.text == kept
    assert answer.finish.reason == generation_pb2.Finish.REASON_STOP


@pytest.mark.parametrize(
    ("prefix", "speech", "kept"),
    [
        ("x = ", (" 1", "\n"), "1"),
        ("x = ", ("", " ", " 1", "\n"), " 1"),
        ("x = ", ("1", " 2\n"), "1 2"),
        ("x =", (" 1", "\n"), " 1"),
    ],
)
async def test_a_space_that_was_typed_does_not_come_again(
    stage: Stage, voice: str, prefix: str, speech: tuple[str, ...], kept: str
) -> None:
    """The base goes on before the last space of a prefix, and one that it begins with is left out."""
    stage.engine.speech = speech

    assert (await complete(stage, request(prefix=prefix))).text == kept


async def test_a_stream_ends_with_how_it_ended(stage: Stage, voice: str) -> None:
    """The last message, and no other, has the Finish and what was read; no message is empty before it."""
    stage.engine.speech = ("a", "\n", "    b", "\nc")

    pieces = [piece async for piece in stage.chat.Complete(request(stop_at=BLOCK), metadata=ACME)]

    assert [piece.text for piece in pieces] == ["a", "\n    b", ""]
    assert [piece.HasField("finish") for piece in pieces] == [False, False, True]
    assert [piece.HasField("context") for piece in pieces] == [False, False, True]


async def test_an_end_before_the_engines_own_frees_the_engine(stage: Stage, voice: str) -> None:
    """Behind the line's end nothing more is generated, and the adapter is let go."""
    stage.engine.speech = ("a\n", *("b\n",) * 10)

    answer = await complete(stage, request())
    await stage.idle()

    assert (answer.text, answer.finish.num_output_tokens) == ("a", 1)
    assert (stage.engine.num_unfinished, stage.engine.num_aborted) == (0, 1)


async def test_a_caller_who_leaves_frees_the_engine(stage: Stage, voice: str) -> None:
    """A cancelled stream is aborted in the engine, and its lease is returned."""
    stage.engine.pause_after(1)
    stream = stage.chat.Complete(request(), metadata=ACME)
    await stream.read()
    stream.cancel()

    await stage.idle()

    assert stage.engine.num_aborted == 1


async def test_code_beyond_the_budget_is_trimmed_and_told(stage: Stage, voice: str) -> None:
    """Lines far from the cursor go, a quarter of the room is the suffix's, and the last message says how much was not read."""
    prefix = "".join(f"before {number:03d}\n" for number in range(100))
    suffix = "".join(f"behind {number:03d}\n" for number in range(100))

    answer = await complete(stage, request(prefix, suffix, max_output_tokens=16))

    ids = stage.engine.requests[-1].prompt_ids
    kept_prefix = prefix[answer.context.num_trimmed_prefix_chars :]
    kept_suffix = suffix[: len(suffix) - answer.context.num_trimmed_suffix_chars]
    assert ids == tiny_fim_renderer().render_prompt(kept_prefix, kept_suffix)
    assert kept_prefix.startswith("before ")
    assert kept_suffix.endswith("\n")
    assert 256 - 16 - 40 < len(ids) <= 256 - 16


async def test_code_that_fits_is_read_whole(stage: Stage, voice: str) -> None:
    """Nothing was trimmed, and the last message says so."""
    answer = await complete(stage, request("a = 1\n", "b = 2\n"))

    assert (answer.context.num_trimmed_prefix_chars, answer.context.num_trimmed_suffix_chars) == (0, 0)


async def test_an_operators_budget_holds(stage: Stage, voice: str) -> None:
    """A server with a smaller budget for prompts reads less of the code."""
    stage.overrides = {"max_completion_prompt_tokens": 64}
    await stage.stop()
    await stage.start()
    await stage.served()

    await complete(stage, request("x" * 500))

    assert len(stage.engine.requests[-1].prompt_ids) <= 64


async def test_other_kinds_of_bots_do_not_complete(stage: Stage, voice: str) -> None:
    """An FAQ bot was not taught to, and the message says what to ask it by."""
    error = await refusal(stage, request(name=f"{FAQ}/versions/0"))

    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_CODE_BOT")


async def test_a_version_of_another_form_is_refused(stage: Stage, voice: str) -> None:
    """What was trained on rows of another form, a chat's for one, would complete nonsense."""
    stage.add_version(f"{BOT}/versions/2")
    await stage.followed()

    error = await refusal(stage, request(name=f"{BOT}/versions/2"))

    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "BASE_MISMATCH")


async def test_every_violation_is_told_at_once(stage: Stage, voice: str) -> None:
    """One answer names everything that is wrong with a request."""
    error = await refusal(stage, request("x" * 262_145, "x" * 262_145, stop_at=9, temperature=3.0))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(error) == ["prefix", "suffix", "stop_at", "options.temperature"]


async def test_more_than_the_context_leaves_is_refused(stage: Stage, voice: str) -> None:
    """A completion that would leave no room for code names what would do."""
    error = await refusal(stage, request(max_output_tokens=256))

    assert fields_of(error) == ["options.max_output_tokens"]
    assert f"at most {256 - TOKENS_OF_FORM - 1 - 16}" in str(error.details())


async def test_a_context_too_small_for_code_is_refused(stage: Stage, voice: str) -> None:
    """A server whose context holds the form and no code says so, whatever was asked for."""
    stage.overrides = {"max_model_tokens": 24}
    await stage.stop()
    await stage.start()
    await stage.served()

    error = await refusal(stage, request())

    assert fields_of(error) == ["options.max_output_tokens"]


async def test_a_dying_engine_is_told_as_in_a_chat(stage: Stage, voice: str) -> None:
    """The stream ends with UNAVAILABLE and how far it came."""
    stage.engine.pause_after(2)
    stream = stage.chat.Complete(request(), metadata=ACME)
    await stream.read()
    stage.engine.kill()

    pieces = []

    async def read_on() -> None:
        while (piece := await stream.read()) is not grpc.aio.EOF:
            pieces.append(piece)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on()

    assert pieces[-1].finish.reason == generation_pb2.Finish.REASON_ENGINE_RESTARTED
    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_RESTARTING")


async def test_tokens_of_what_a_stop_cuts_off_do_not_come(stage: Stage, voice: str) -> None:
    """Only what was sent is told: the token in which the line ends, with what begins in it, and none behind."""
    stage.engine.speech = ("return ", "1\n", "more", "\n")

    answer = await complete(stage, request(num_logprobs=1))

    assert answer.text == "return 1"
    assert [(token.text, len(token.alternatives)) for token in answer.tokens] == [("return ", 1), ("1\n", 1)]
