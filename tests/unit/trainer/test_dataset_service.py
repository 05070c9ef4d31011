"""Uploads through the registry's door."""

import hashlib

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2
from tests.fakes.trainer import (
    FAQ_LINES,
    SUPPORT_LINES,
    Trainer,
    faq_dataset,
    faq_jsonl,
    fields_of,
    info_of,
    reason_of,
    support_dataset,
)

State = dataset_pb2.Dataset
CONTENT = faq_jsonl(FAQ_LINES)


@pytest.fixture
async def dataset(trainer: Trainer) -> str:
    """A dataset of aurora's that nothing was uploaded to."""
    await trainer.add_tenant("aurora")
    return await trainer.begin_dataset("aurora")


async def finish(trainer: Trainer, dataset: str, data: bytes) -> dataset_pb2.Dataset:
    """Upload everything at once."""
    await trainer.append(dataset, data)
    return await trainer.finalize(dataset)


def problems_of(dataset: dataset_pb2.Dataset) -> list[tuple[int, str]]:
    """Return each problem's line and reason."""
    return [(problem.line, problem.reason) for problem in dataset.report.problems]


async def test_good_data_becomes_ready(trainer: Trainer, dataset: str) -> None:
    """A READY dataset has its digest and says what it holds."""
    ready = await finish(trainer, dataset, CONTENT)

    assert (ready.state, ready.digest) == (State.STATE_READY, hashlib.sha256(CONTENT).hexdigest())
    assert (ready.report.num_entries, ready.report.num_rows) == (6, 12)


async def test_chunks_make_the_same_bytes(trainer: Trainer, dataset: str) -> None:
    """Data in pieces, one of them sent twice, is the data."""
    await trainer.append(dataset, CONTENT[:100])
    await trainer.append(dataset, CONTENT[:100])
    await trainer.append(dataset, CONTENT[100:], offset=100)

    assert (await trainer.finalize(dataset)).digest == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("offset", [7, 99, 101, 5000])
async def test_a_chunk_elsewhere_is_told_where_to_go(trainer: Trainer, dataset: str, offset: int) -> None:
    """A gap, an overlap, and other bytes in a place that is taken are refused with the offset expected."""
    await trainer.append(dataset, CONTENT[:100])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.append(dataset, b"other bytes", offset=offset)

    assert (reason_of(refused.value), info_of(refused.value).metadata["offset_expected"]) == ("OFFSET_MISMATCH", "100")


async def test_an_upload_goes_on_after_a_restart(trainer: Trainer, dataset: str) -> None:
    """Bytes that were acknowledged are there when the service comes back."""
    await trainer.append(dataset, CONTENT[:100])
    await trainer.stop()
    await trainer.start()
    await trainer.append(dataset, CONTENT[100:], offset=100)

    assert (await trainer.finalize(dataset)).state == State.STATE_READY


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\n", (0, "EMPTY")),
        (CONTENT + b'{"question": "caf\xe9"}\n', (7, "INVALID_UTF8")),
        (CONTENT + b"no json\n", (7, "INVALID_JSON")),
        (CONTENT + b'{"question": "only this"}\n', (7, "FIELD_MISSING")),
    ],
)
async def test_bad_data_is_rejected_by_line(
    trainer: Trainer, dataset: str, data: bytes, problem: tuple[int, str]
) -> None:
    """Bad data is no error of the call: the dataset is REJECTED, its report has the lines and not what they say."""
    rejected = await finish(trainer, dataset, data)

    assert (rejected.state, rejected.digest, problems_of(rejected)) == (State.STATE_REJECTED, "", [problem])
    assert "only this" not in str(rejected)


async def test_nothing_uploaded_is_rejected_as_empty(trainer: Trainer, dataset: str) -> None:
    """An upload that is ended before it began is refused like an empty file."""
    assert problems_of(await trainer.finalize(dataset)) == [(0, "EMPTY")]


async def test_a_dataset_over_the_limit_is_refused_with_the_numbers(trainer: Trainer) -> None:
    """The chunk that would pass the limit is refused, with both sizes."""
    await trainer.stop()
    trainer.overrides = {"max_dataset_bytes": 150}
    await trainer.start()
    await trainer.add_tenant("aurora")
    dataset = await trainer.begin_dataset("aurora")
    await trainer.append(dataset, CONTENT[:100])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.append(dataset, CONTENT[100:200], offset=100)

    numbers = info_of(refused.value).metadata
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (reason_of(refused.value), numbers["size_bytes"], numbers["limit_bytes"]) == ("TOO_LARGE", "200", "150")


@pytest.mark.parametrize("num_bytes", [0, 1024 * 1024 + 1])
async def test_a_chunk_has_one_byte_to_a_mebibyte(trainer: Trainer, dataset: str, num_bytes: int) -> None:
    """Empty and large chunks are bad fields."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.append(dataset, b"x" * num_bytes)

    assert fields_of(refused.value) == ["data"]


async def test_another_digest_is_refused(trainer: Trainer, dataset: str) -> None:
    """Bytes that are not those the caller sent are never accepted."""
    await trainer.append(dataset, CONTENT)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.finalize(dataset, "0" * 64)

    assert (refused.value.code(), reason_of(refused.value)) == (grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH")


async def test_finalizing_again_changes_nothing(trainer: Trainer, dataset: str) -> None:
    """A retry of FinalizeDataset returns the dataset as it became."""
    first = await finish(trainer, dataset, CONTENT)

    assert await trainer.finalize(dataset) == first


async def test_a_ready_dataset_never_changes(trainer: Trainer, dataset: str) -> None:
    """No chunk is taken after the end."""
    await finish(trainer, dataset, CONTENT)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.append(dataset, CONTENT)

    assert reason_of(refused.value) == "NOT_UPLOADING"


async def test_the_same_request_makes_one_dataset(trainer: Trainer, dataset: str) -> None:
    """Sent twice with one request id it is created once; with other content the id is refused."""
    request = registry_service_pb2.CreateDatasetRequest(
        parent="tenants/aurora", dataset=faq_dataset(), request_id="once"
    )
    names = {(await trainer.registry.CreateDataset(request, metadata=trainer.admin)).name for _ in range(2)}
    request.dataset.display_name = "another"

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.registry.CreateDataset(request, metadata=trainer.admin)

    assert (len(names), reason_of(refused.value)) == (1, "REQUEST_ID_REUSED")


async def test_a_table_is_read_like_lines(trainer: Trainer, dataset: str) -> None:
    """FAQ in CSV is judged with its tokens, by the service's own base where none is named."""
    layout = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_FAQ, format=dataset_pb2.DATASET_FORMAT_FAQ_CSV)
    table = b"question,answer,wordings\nWhen?,At noon.,At what time?|What time?\nWho?,He.,\n"
    ready = await finish(trainer, await trainer.begin_dataset("aurora", layout), table)

    assert (ready.state, ready.report.num_entries, ready.report.num_rows) == (State.STATE_READY, 2, 4)
    assert (ready.report.base_model, sum(bucket.num_rows for bucket in ready.report.row_lengths)) == ("tiny", 4)
    assert ready.report.num_tokens > ready.report.longest_row_tokens > 0


async def test_conversations_are_judged(trainer: Trainer, dataset: str) -> None:
    """Each thing found is counted by its reason."""
    lines = [
        *SUPPORT_LINES,
        SUPPORT_LINES[0],
        {"messages": [{"role": "user", "content": "Write to me at jo@firm.com"}]},
    ]
    rejected = await finish(trainer, await trainer.begin_dataset("aurora", support_dataset()), faq_jsonl(lines))

    assert rejected.state == State.STATE_REJECTED
    assert (
        rejected.report.num_by_reason["NO_AGENT_TURN"] == rejected.report.num_by_reason["DUPLICATE_CONVERSATION"] == 1
    )
    assert "jo@firm.com" not in str(rejected)


async def test_a_format_of_another_kind_is_refused(trainer: Trainer, dataset: str) -> None:
    """Conversations do not teach an FAQ bot; the error has the formats that do."""
    wrong = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_FAQ, format=dataset_pb2.DATASET_FORMAT_CONVERSATION_JSONL)

    with pytest.raises(grpc.aio.AioRpcError, match="FAQ_JSONL, FAQ_CSV, FAQ_TSV") as refused:
        await trainer.begin_dataset("aurora", wrong)

    assert fields_of(refused.value) == ["dataset.format"]


async def test_a_base_that_is_named_must_be_prepared(trainer: Trainer, dataset: str) -> None:
    """Else the dataset stays as it was, and can be finalized by another."""
    await trainer.append(dataset, CONTENT)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.finalize(dataset, base_model="llama-2-7b")

    assert reason_of(refused.value) == "BASE_NOT_PREPARED"
    assert (await trainer.finalize(dataset, base_model="tiny")).report.base_model == "tiny"


async def test_without_a_default_base_nothing_is_counted(trainer: Trainer) -> None:
    """A trainer whose own base is not prepared takes data all the same."""
    await trainer.stop()
    trainer.overrides = {"base_model": "llama-2-7b"}
    await trainer.start()
    await trainer.add_tenant("aurora")
    ready = await finish(trainer, await trainer.begin_dataset("aurora"), CONTENT)

    assert (ready.state, ready.report.base_model, ready.report.num_tokens) == (State.STATE_READY, "", 0)


async def test_newest_datasets_are_listed_first(trainer: Trainer, dataset: str) -> None:
    """Pages go from the newest to the oldest."""
    newest = await trainer.begin_dataset("aurora")
    request = registry_service_pb2.ListDatasetsRequest(parent="tenants/aurora", page_size=1)
    first = await trainer.registry.ListDatasets(request, metadata=trainer.admin)
    request.page_token = first.next_page_token
    second = await trainer.registry.ListDatasets(request, metadata=trainer.admin)

    assert [page.datasets[0].name for page in (first, second)] == [newest, dataset]
    assert second.next_page_token == ""
