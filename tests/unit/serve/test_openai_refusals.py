"""OpenAI's interface when it refuses: its own client's exceptions, our reasons and numbers, and nothing of the inside."""

import json
from typing import Any

import openai
import pytest
from structlog.testing import capture_logs

from tests.fakes.openai_caller import BOT, ask, open_client, open_raw
from tests.fakes.server import Stage

SECRET = "password=hunter2"


async def refusal(client: openai.AsyncOpenAI, **request: Any) -> openai.APIStatusError:
    """Return the error that a chat meets."""
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(**{"model": "faq", "messages": ask(), **request})
    return caught.value


async def answer_to(stage: Stage, body: bytes, **request: Any) -> tuple[int, dict[str, Any]]:
    """Return status and error of what no client would send."""
    async with open_raw(stage) as caller:
        await caller.send(body, **request)
        status, content = await caller.read()
    return status, content["error"]


async def test_a_key_nobody_issued_is_refused(openai_stage: Stage) -> None:
    """Unknown keys meet 401, in the words of gRPC."""
    async with open_client(openai_stage, "adk_guess") as stranger:
        error = await refusal(stranger)

    assert isinstance(error, openai.AuthenticationError)
    assert (error.code, error.type) == ("KEY_UNKNOWN", "authentication_error")


async def test_an_operators_key_asks_no_bot(openai_stage: Stage) -> None:
    """Who may call what is one table's for both protocols."""
    async with open_client(openai_stage, openai_stage.admin_key[0][1].removeprefix("Bearer ")) as operator:
        error = await refusal(operator)

    assert isinstance(error, openai.PermissionDeniedError)
    assert error.code == "ROLE_NOT_ALLOWED"


async def test_another_tenants_bot_does_not_exist(client: openai.AsyncOpenAI) -> None:
    """A foreign bot and a bot nobody has are refused in the same words, as a model to look up, too."""
    foreign = await refusal(client, model="tenants/globex/bots/theirs")
    absent = await refusal(client, model="tenants/acme/bots/none")
    with pytest.raises(openai.NotFoundError) as looked_up:
        await client.models.retrieve("tenants/globex/bots/theirs")

    assert isinstance(foreign, openai.NotFoundError)
    assert foreign.code == absent.code == looked_up.value.code == "NOT_FOUND"
    assert foreign.message.replace("globex/bots/theirs", "acme/bots/none") == absent.message


async def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(client: openai.AsyncOpenAI) -> None:
    """In the words of this interface: messages, and max_tokens."""
    error = await refusal(client, max_tokens=250)

    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.code, error.type) == ("messages", "INVALID_REQUEST", "invalid_request_error")
    assert "256" in error.message
    assert "lower max_tokens" in error.message


async def test_every_violation_is_told_at_once(client: openai.AsyncOpenAI) -> None:
    """What OpenAI's form forbids and what the contract does stand in one answer, by the names of this interface."""
    error = await refusal(
        client,
        model="gpt-3.5",
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": ""}],
        max_completion_tokens=0,
        temperature=3,
        n=2,
        user="x" * 257,
    )

    wrong = ["n", "messages[0].role", "model", "messages[1].content", "max_tokens", "temperature", "user"]
    places = [error.message.index(f"{field}: ") for field in wrong]
    assert places == sorted(places)
    assert error.param == "n"


async def test_what_is_not_served_is_refused_by_name(client: openai.AsyncOpenAI) -> None:
    """An answer without what was asked for would pass for one with it."""
    wishes: dict[str, Any] = {
        "n": 2,
        "logprobs": True,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logit_bias": {"5": 1},
        "frequency_penalty": 0.5,
        "reasoning_effort": "high",
        "stream_options": {"include_usage": True},
    }

    errors = {name: await refusal(client, **{name: value}) for name, value in wishes.items()}

    assert {name: error.param for name, error in errors.items()} == {name: name for name in wishes}
    assert {error.status_code for error in errors.values()} == {400}


async def test_a_message_of_another_kind_is_refused(client: openai.AsyncOpenAI) -> None:
    """Only what is said, as text, by user or assistant."""
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = {
        "messages[0].role": {"role": "tool", "content": "4"},
        "messages[0].name": {"role": "user", "content": "x", "name": "Ann"},
        "messages[0].content[0].type": {"role": "user", "content": [image]},
        "messages[0].content[0].text": {"role": "user", "content": [{"type": "text"}]},
        "messages[0].content": {"role": "user", "content": 5},
        "messages[0].tool_calls": {"role": "assistant", "content": "x", "tool_calls": [{}]},
    }

    errors = [await refusal(client, messages=[message]) for message in messages.values()]

    assert [error.param for error in errors] == list(messages)


async def test_a_field_nobody_knows_is_refused(client: openai.AsyncOpenAI) -> None:
    """As OpenAI does: a misspelt wish would silently not be kept."""
    error = await refusal(client, extra_body={"max_token": 5})

    assert (error.status_code, error.param) == (400, "max_token")


async def test_two_limits_must_agree(client: openai.AsyncOpenAI) -> None:
    """The old and the new name of one wish may not say different things."""
    error = await refusal(client, max_tokens=1, max_completion_tokens=2)

    assert error.param == "max_completion_tokens"


async def test_a_chat_bot_completes_nothing(client: openai.AsyncOpenAI) -> None:
    """A bot of another kind was not taught to complete code."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="faq", prompt="x = ")

    assert caught.value.code == "NOT_A_CODE_BOT"


async def test_a_completion_out_of_bounds_is_refused(client: openai.AsyncOpenAI) -> None:
    """One prompt, as text, and one completion that the context can hold."""
    requests: list[tuple[dict[str, Any], str]] = [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt[0]"),
        ({"echo": True}, "echo"),
        ({"logprobs": 0}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"max_tokens": 256}, "max_tokens"),
    ]
    for request, param in requests:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.completions.create(**{"model": "code", "prompt": "x = ", **request})
        assert caught.value.param == param


async def test_a_body_that_is_no_request_is_refused(openai_stage: Stage) -> None:
    """Strict JSON in strict UTF-8; the message repeats nothing of it."""
    said = b'{"model": "faq", "messages": [{"role": "user", "content": "x"}], '
    bodies = (
        b"",
        b"[]",
        b'{"model": "faq"',
        b'{"model": "\xff"}',
        b'{"model": "faq", "messages": [{"role": "user", "content": "\\ud800"}]}',
        said + b'"temperature": NaN}',
        said + b'"max_tokens": ' + b"9" * 30 + b"}",
        b'{"model": "faq", "messages": ' + b"[" * 50_000,
    )

    for body in bodies:
        status, error = await answer_to(openai_stage, body)

        assert (status, error["code"]) == (400, "INVALID_REQUEST")
        assert "[[[" not in error["message"]


async def test_a_body_over_the_size_limit_is_refused(openai_stage: Stage) -> None:
    """One MiB is the most that is read, and the connection is good for the next request."""
    good = json.dumps({"model": "faq", "messages": ask(), "max_tokens": 1}).encode()
    async with open_raw(openai_stage) as caller:
        await caller.send(b" " * ((1 << 20) + 1))
        status, content = await caller.read()
        await caller.send(good)
        next_status, _ = await caller.read()

    assert (status, content["error"]["code"]) == (413, "TOO_LARGE")
    assert next_status == 200


async def test_a_route_that_is_not_there_is_told_in_the_same_form(openai_stage: Stage) -> None:
    """Whatever a tool tries, it finds an error that it can read."""
    routes = {("POST", "/v1/embeddings"): 404, ("POST", "/v1/models"): 405, ("PUT", "/v1/chat/completions"): 405}

    for (method, path), status in routes.items():
        found, error = await answer_to(openai_stage, b"{}", method=method, path=path)

        assert (found, error["code"]) == (status, "NO_SUCH_ROUTE")


async def test_a_full_queue_tells_when_to_retry(openai_stage: Stage) -> None:
    """429 with the time, as OpenAI's clients wait it."""
    openai_stage.overrides.update(max_in_flight=1, max_waiting=0)
    await openai_stage.stop()
    await openai_stage.start()
    await openai_stage.followed()
    openai_stage.engine.pause_after(1)
    async with open_client(openai_stage) as client:
        stream = await client.chat.completions.create(model="faq", messages=ask(), stream=True)

        error = await refusal(client)
        await stream.close()

    assert isinstance(error, openai.RateLimitError)
    assert (error.code, error.type) == ("QUEUE_FULL", "rate_limit_error")
    assert int(error.response.headers["retry-after"]) >= 1
    assert int(error.response.headers["retry-after-ms"]) >= 500


async def test_a_failure_inside_shows_an_id_and_nothing_else(
    openai_stage: Stage, client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of an exception stays in the log."""

    def fail(*arguments: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(openai_stage.model.renderer, "render_prompt", fail)

    with capture_logs() as logs:
        error = await refusal(client)

    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (500, "INTERNAL")
    (logged,) = (event for event in logs if event["event"] == "call_failed")
    assert logged["error_id"] in error.message
    assert SECRET not in error.response.text


async def test_a_callers_own_time_limit_holds(openai_stage: Stage, client: openai.AsyncOpenAI) -> None:
    """It is a header that any client can send, and ends what hangs as a deadline over gRPC does."""
    openai_stage.engine.hang()

    error = await refusal(client, extra_headers={"x-request-timeout": "0.2"})
    others = [await refusal(client, extra_headers={"x-request-timeout": text}) for text in ("soon", "-1", "inf")]

    assert (error.status_code, error.code) == (504, "DEADLINE_EXCEEDED")
    assert {other.param for other in others} == {"x-request-timeout"}
    openai_stage.engine.go_on()


async def test_a_bot_without_a_version_says_what_to_do(openai_stage: Stage) -> None:
    """It is listed, and asked it tells the way out."""
    async with open_client(openai_stage, "adk_globex") as globex:
        error = await refusal(globex, model="theirs")

    assert (error.status_code, error.code) == (400, "NO_VERSION_PROMOTED")
    assert BOT not in error.message
