"""The asyncio client against both services, scripted."""

import asyncio
from collections.abc import AsyncIterator
from math import exp
from pathlib import Path

import grpc
import pytest

from adaptory.client import AdaptoryClient, Patience, RpcFailed, Upload, measure_certainty, user
from adaptory.client.connection import Endpoint
from adaptory.client.datasets import CHUNK_BYTES
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL, Dataset
from adaptory.serve.v1.generation_pb2 import GeneratedToken, GenerationOptions
from adaptory.trainer.v1.training_job_pb2 import TrainingJob
from tests.fakes.services import KEY, SMALLEST_LIMIT_BYTES, ScriptedServices

TENANT = "tenants/aurora"
BOT = "tenants/aurora/bots/faq"
EAGER = Patience(first_s=0.001, longest_s=0.002, max_failures=1)


@pytest.fixture
async def services() -> AsyncIterator[ScriptedServices]:
    """Both services, scripted."""
    async with ScriptedServices() as services:
        yield services


@pytest.fixture
async def client(services: ScriptedServices) -> AsyncIterator[AdaptoryClient]:
    """A client of both with a good key and little patience."""
    async with AdaptoryClient(
        KEY, trainer=services.trainer_address, server=services.server_address, patience=EAGER
    ) as client:
        yield client


def _faq(tmp_path: Path, num_chunks: float) -> Upload:
    file = tmp_path / "faq.jsonl"
    line = b'{"question": "Q", "answer": "A"}\n'
    file.write_bytes(line * int(num_chunks * CHUNK_BYTES // len(line)))
    return Upload(file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL)


async def test_upload_sends_every_byte_in_chunks(
    client: AdaptoryClient, services: ScriptedServices, tmp_path: Path
) -> None:
    """An upload arrives whole, in chunks of at most 256 KiB, and says how far it is."""
    upload, told = _faq(tmp_path, 2.5), []
    dataset = await client.datasets.upload(TENANT, upload, on_bytes=lambda sent, _total: told.append(sent))
    assert dataset.state == Dataset.STATE_READY
    assert services.registry.data[dataset.name] == upload.file.read_bytes()
    assert services.registry.offsets == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert told[-1] == upload.file.stat().st_size


async def test_upload_goes_on_where_a_lost_answer_left_it(
    client: AdaptoryClient, services: ScriptedServices, tmp_path: Path
) -> None:
    """A chunk that was taken but whose answer was lost is not sent into the file twice."""
    upload = _faq(tmp_path, 2.5)
    services.script.drop_chunks = [2]
    dataset = await client.datasets.upload(TENANT, upload)
    assert services.registry.data[dataset.name] == upload.file.read_bytes()


async def test_second_upload_takes_up_the_first(
    client: AdaptoryClient, services: ScriptedServices, tmp_path: Path
) -> None:
    """An upload that a killed process began is finished by the next one, without a second dataset."""
    upload = _faq(tmp_path, 2.5)
    services.script.refuse_chunks_after = 1
    with pytest.raises(RpcFailed, match="The disk is away"):
        await client.datasets.upload(TENANT, upload)
    services.script.refuse_chunks_after = None
    dataset = await client.datasets.upload(TENANT, upload)
    assert services.registry.data[dataset.name] == upload.file.read_bytes()
    assert services.registry.offsets == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]


async def test_same_upload_twice_is_one_dataset(
    client: AdaptoryClient, services: ScriptedServices, tmp_path: Path
) -> None:
    """Bytes that the service has already are not sent again."""
    first = await client.datasets.upload(TENANT, _faq(tmp_path, 0.1))
    num_chunks = len(services.registry.offsets)
    second = await client.datasets.upload(TENANT, _faq(tmp_path, 0.1))
    assert (second.name, len(services.registry.offsets)) == (first.name, num_chunks)


async def test_watch_survives_lost_connections(client: AdaptoryClient, services: ScriptedServices) -> None:
    """Every event comes once and in order although the stream is cut three times, once before any event."""
    services.script.drop_watch_after = [2, 0, 1]
    job = await client.jobs.create(TrainingJob(bot=BOT, dataset=f"{TENANT}/datasets/d1"))
    sequences = [event.sequence async for event in client.jobs.watch(job.name)]
    assert sequences == [1, 2, 3, 4, 5, 6]
    assert services.trainer.watched_after[0] == 0
    assert services.trainer.watched_after[-1] == 3


async def test_watch_gives_up_without_progress(client: AdaptoryClient, services: ScriptedServices) -> None:
    """A service that stays away ends the watch with an error instead of an endless wait."""
    services.script.drop_watch_after = [0] * 100
    job = await client.jobs.create(TrainingJob(bot=BOT, dataset=f"{TENANT}/datasets/d1"))
    with pytest.raises(RpcFailed) as caught:
        async for _ in client.jobs.watch(job.name):
            pass
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_failure_carries_reason_and_numbers(client: AdaptoryClient) -> None:
    """A job that does not fit tells the smallest limit that would do, as text and as a number."""
    with pytest.raises(RpcFailed, match="smallest limit") as caught:
        await client.jobs.plan(TrainingJob(bot=BOT, memory_limit_bytes=1))
    assert caught.value.reason == "DOES_NOT_FIT"
    assert int(caught.value.metadata["smallest_limit_bytes"]) == SMALLEST_LIMIT_BYTES


async def test_wrong_key_is_refused(services: ScriptedServices) -> None:
    """A key nobody issued is refused with what to do about it."""
    async with AdaptoryClient("adk_wrong", trainer=services.trainer_address) as stranger:
        with pytest.raises(RpcFailed, match="ask the operator") as caught:
            await stranger.bots.get(BOT)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_UNKNOWN")


async def test_absent_service_is_named(services: ScriptedServices) -> None:
    """Nobody listening is told with the address and the way out, not with a traceback of the transport."""
    async with AdaptoryClient(KEY, trainer="127.0.0.1:1") as client:
        with pytest.raises(RpcFailed, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
            await client.bots.get(BOT)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_lists_walk_every_page(client: AdaptoryClient) -> None:
    """A list longer than a page comes whole."""
    for tenant_id in ("a", "b", "c", "d", "e"):
        await client.tenants.create(tenant_id)
    assert [tenant.name async for tenant in client.tenants.list_all()] == [f"tenants/{letter}" for letter in "abcde"]


async def test_answer_comes_in_pieces_and_finishes(client: AdaptoryClient, services: ScriptedServices) -> None:
    """The pieces join to the answer and only the last one says how it ended."""
    pieces = [piece async for piece in client.chat.stream(BOT, [user("How long?")])]
    assert "".join(piece.text for piece in pieces).strip() == services.script.answer
    assert [piece.HasField("finish") for piece in pieces] == [False] * 4 + [True]


async def test_unfinished_answer_is_an_error(client: AdaptoryClient, services: ScriptedServices) -> None:
    """A stream that ends well without its finish is never taken for a whole answer."""
    services.script.finishes = False
    with pytest.raises(RpcFailed, match="ended the answer before it was finished"):
        async for _ in client.chat.stream(BOT, [user("How long?")]):
            pass


async def test_an_answer_tells_how_sure_the_bot_was(client: AdaptoryClient, services: ScriptedServices) -> None:
    """The geometric mean of its tokens' probabilities, for those who ask for these; else there is nothing to take it from."""
    asked = [
        [token async for piece in client.chat.stream(BOT, "How long?", options=options) for token in piece.tokens]
        for options in (GenerationOptions(num_logprobs=0), None)
    ]

    assert measure_certainty(asked[0]) == pytest.approx(exp(services.script.token_logprob))
    assert measure_certainty([GeneratedToken(logprob=0.0), GeneratedToken(logprob=-2.0)]) == pytest.approx(exp(-1.0))
    with pytest.raises(ValueError, match="num_logprobs=0"):
        measure_certainty(asked[1])


async def test_whole_answer(client: AdaptoryClient, services: ScriptedServices) -> None:
    """The unary twin returns the answer with the version that gave it."""
    answer = await client.chat.ask(BOT, "How long?")
    assert (answer.text, answer.finish.version) == (services.script.answer, f"{BOT}/versions/1")


async def test_readiness_is_waited_for(client: AdaptoryClient, services: ScriptedServices) -> None:
    """A caller that comes before the engine is up waits until the server says it serves."""
    waiting = asyncio.create_task(client.chat.wait_until_ready(deadline_s=20))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    await services.set_serving()
    await waiting


async def test_readiness_that_never_comes_is_told(client: AdaptoryClient) -> None:
    """A server that stays unready ends the wait with its address and where to look."""
    with pytest.raises(RpcFailed, match="Its log says") as caught:
        await client.chat.wait_until_ready(deadline_s=0.05)
    assert caught.value.reason == "NOT_SERVING"


async def test_a_promotion_is_waited_for_until_the_server_routes_to_it(
    client: AdaptoryClient, services: ScriptedServices
) -> None:
    """A server that still answers with the version before is asked again until it has heard."""
    services.serve.routes = ["", f"{BOT}/versions/1", f"{BOT}/versions/2"]

    await client.chat.wait_until_routed(f"{BOT}/versions/2")

    assert services.serve.routes == [f"{BOT}/versions/2"]


async def test_a_promotion_the_server_never_hears_of_is_told(client: AdaptoryClient) -> None:
    """The wait ends with the version and what to look at."""
    with pytest.raises(RpcFailed, match=r"versions/9 after 0\.1 s") as caught:
        await client.chat.wait_until_routed(f"{BOT}/versions/9", deadline_s=0.1)
    assert caught.value.reason == "NOT_ROUTED"


def test_key_stays_out_of_texts() -> None:
    """An endpoint that lands in a log does not take its key along."""
    assert "adk_secret" not in repr(Endpoint("127.0.0.1:1", "adk_secret"))
