"""ImportAdapter, called as a backend calls it: what comes from other programs becomes a version, or is refused by its reason."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from adaptory.core.adapter_check import AdapterLimits, check_adapter
from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2, version_pb2
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.adapters import read_config, tiny_shape
from tests.fakes import base
from tests.fakes.trainer import Metadata, Trainer, fields_of, reason_of
from tests.foreign_adapters import ORIGINS, PEFT, TORCHTUNE, pack, write_foreign

BOT = "tenants/aurora/bots/faq"
JudgedImport = Callable[[str], Awaitable[tuple[Trainer, version_pb2.Version]]]
UNJUDGED, READY = version_pb2.Version.STATE_UNJUDGED, version_pb2.Version.STATE_READY


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer with aurora and its bot."""
    async with Trainer(tmp_path / "trainer") as started:
        await started.add_tenant("aurora")
        await started.add_bot("aurora")
        yield started


def adapter_upload() -> dataset_pb2.Dataset:
    """Return what an upload of an adapter is created from."""
    return dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_FAQ, format=dataset_pb2.DATASET_FORMAT_ADAPTER_TAR)


async def upload(trainer: Trainer, folder: Path) -> str:
    """Upload what is in a folder and return the dataset's name."""
    return await trainer.add_dataset("aurora", pack(folder), adapter_upload())


async def import_adapter(
    trainer: Trainer, dataset: str, key: Metadata | None = None, **fields: Any
) -> version_pb2.Version:
    """Import what was uploaded."""
    request = registry_service_pb2.ImportAdapterRequest(**{"parent": BOT, "dataset": dataset, **fields})
    return await trainer.registry.ImportAdapter(request, metadata=key or trainer.admin)


async def list_versions(trainer: Trainer) -> list[version_pb2.Version]:
    """Return the bot's versions."""
    request = registry_service_pb2.ListVersionsRequest(parent=BOT)
    return list((await trainer.registry.ListVersions(request, metadata=trainer.admin)).versions)


async def download(trainer: Trainer, version: str, folder: Path) -> Path:
    """Download a version's files as a server does."""
    await asyncio.to_thread(folder.mkdir)
    request = registry_service_pb2.DownloadAdapterRequest(name=version)
    async for piece in trainer.registry.DownloadAdapter(request, metadata=trainer.server):
        with (folder / piece.file_name).open("ab") as file:
            file.write(piece.data)
    return folder


async def promote(trainer: Trainer, version: str, reason: str = "") -> bot_pb2.Bot:
    """Promote a version, with a reason to override the gate."""
    request = registry_service_pb2.PromoteVersionRequest(name=version, override_gate_reason=reason)
    return await trainer.registry.PromoteVersion(request, metadata=trainer.admin)


@pytest.mark.parametrize("origin", ["torchtune", "unsloth"])
async def test_what_other_programs_write_becomes_a_version_that_servers_load(
    origin: str, trainer: Trainer, tmp_path: Path
) -> None:
    """Each program's own config is taken, and what servers download passes the check they make."""
    folder = write_foreign(tmp_path / "adapter", ORIGINS[origin])
    version = await import_adapter(trainer, await upload(trainer, folder), origin=f"made by {origin}")
    served = await download(trainer, version.name, tmp_path / "served")

    report = check_adapter(served, tiny_shape(), AdapterLimits(max_rank=16))
    assert (version.name, version.state, version.rank) == (f"{BOT}/versions/1", UNJUDGED, 8)
    assert (version.digest, version.size_bytes) == (report.digest, report.size_bytes)
    assert read_config(served)["use_rslora"] == ORIGINS[origin].get("use_rslora", False)
    assert version.lineage.imported.origin == f"made by {origin}"
    assert json.loads(version.lineage.imported.original_config) == ORIGINS[origin]


async def test_a_version_tells_what_it_was_and_what_was_changed(trainer: Trainer, tmp_path: Path) -> None:
    """The lineage has base, upload and every change, and nothing that only training could know."""
    folder = write_foreign(tmp_path / "adapter", ORIGINS["unsloth"])
    dataset = await upload(trainer, folder)
    version = await import_adapter(trainer, dataset)
    lineage, imported = version.lineage, version.lineage.imported

    assert (imported.dataset, len(imported.dataset_digest)) == (dataset, 64)
    assert imported.named_base == "unsloth/smollm2-135m-instruct-bnb-4bit"
    assert imported.changes[0].startswith("Wrote out target_modules as the modules that the weights adapt")
    assert imported.changes[-1] == "Rounded weights of F32 to BF16, in which they are served."
    assert (lineage.base_model, len(lineage.parity_digest), len(lineage.receipt)) == (base.NAME, 64, 8)
    assert (lineage.training_job, lineage.dataset, lineage.device) == ("", "", "")
    assert not version.HasField("evaluation")
    assert version.rejection == "It was imported without rows to judge it by."


async def test_its_receipt_and_template_are_those_of_a_trained_version(trainer: Trainer, tmp_path: Path) -> None:
    """A server compares them with its own, whatever made the version."""
    folder = write_foreign(tmp_path / "adapter", PEFT)
    imported = await import_adapter(trainer, await upload(trainer, folder))
    dataset = await trainer.add_dataset("aurora")
    trained = await trainer.train("aurora")

    assert dataset
    assert imported.lineage.template_digest == trained.lineage.template_digest
    assert imported.lineage.parity_digest == trained.lineage.parity_digest
    assert imported.system_prompt == trained.system_prompt


async def test_it_answers_only_where_somebody_says_why(trainer: Trainer, tmp_path: Path) -> None:
    """Nothing judged it: promotion is refused without a reason, and the reason stays with the version."""
    folder = write_foreign(tmp_path / "adapter", TORCHTUNE)
    version = await import_adapter(trainer, await upload(trainer, folder))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await promote(trainer, version.name)
    bot = await promote(trainer, version.name, "It is the one our old service answers with.")
    kept = (await list_versions(trainer))[0]

    assert reason_of(refused.value) == "VERSION_NOT_READY"
    assert "imported without rows" in str(refused.value.details())
    assert (bot.routes.production, kept.state, kept.gate_override.caller) == (version.name, READY, "admin")


async def test_validate_only_says_what_it_would_be_and_keeps_nothing(trainer: Trainer, tmp_path: Path) -> None:
    """The same version without a name; no version, no file of it."""
    dataset = await upload(trainer, write_foreign(tmp_path / "adapter", PEFT))
    before = set((trainer.folder / "state" / "artifacts").rglob("*"))
    checked = await import_adapter(trainer, dataset, validate_only=True)

    assert (checked.name, checked.state, checked.rank) == ("", UNJUDGED, 8)
    assert await list_versions(trainer) == []
    assert set((trainer.folder / "state" / "artifacts").rglob("*")) == before
    assert (await import_adapter(trainer, dataset)).digest == checked.digest


async def test_the_same_request_makes_one_version(trainer: Trainer, tmp_path: Path) -> None:
    """A retry gets the version of the first call; another request of the same id is refused."""
    dataset = await upload(trainer, write_foreign(tmp_path / "adapter", PEFT))
    first = await import_adapter(trainer, dataset, request_id="once")
    again = await import_adapter(trainer, dataset, request_id="once")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await import_adapter(trainer, dataset, request_id="once", origin="other")

    assert again == first
    assert reason_of(refused.value) == "REQUEST_ID_REUSED"
    assert len(await list_versions(trainer)) == 1


async def test_what_cannot_be_served_is_refused_and_leaves_nothing(trainer: Trainer, tmp_path: Path) -> None:
    """By the judge's own reason; no version comes of it, and no file but the upload stays."""
    dataset = await upload(trainer, write_foreign(tmp_path / "adapter", {**PEFT, "use_dora": True}))
    before = set((trainer.folder / "state").rglob("*"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await import_adapter(trainer, dataset)

    assert (reason_of(refused.value), refused.value.code()) == (
        "UNSUPPORTED_FEATURE",
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert await list_versions(trainer) == []
    assert set((trainer.folder / "state").rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("adapter_model.bin", "PICKLED_WEIGHTS"), ("README.md", "FILE_UNKNOWN")],
)
async def test_an_upload_holds_two_files_and_no_pickle(
    name: str, reason: str, trainer: Trainer, tmp_path: Path
) -> None:
    """Anything else makes it REJECTED, with the way out in its report."""
    folder = write_foreign(tmp_path / "adapter", PEFT)
    (folder / name).write_bytes(b"\x80\x04")
    dataset = await trainer.begin_dataset("aurora", adapter_upload())
    await trainer.append(dataset, pack(folder))
    rejected = await trainer.finalize(dataset)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await import_adapter(trainer, dataset)

    assert rejected.state == dataset_pb2.Dataset.STATE_REJECTED
    assert [problem.reason for problem in rejected.report.problems] == [reason]
    assert reason_of(refused.value) == "DATASET_NOT_READY"


async def test_an_adapter_is_no_training_data_and_data_no_adapter(trainer: Trainer, tmp_path: Path) -> None:
    """Each is refused where the other is asked for."""
    data = await trainer.add_dataset("aurora")
    with pytest.raises(grpc.aio.AioRpcError) as no_adapter:
        await import_adapter(trainer, data)
    adapter = await upload(trainer, write_foreign(tmp_path / "adapter", PEFT))
    with pytest.raises(grpc.aio.AioRpcError) as no_data:
        await trainer.submit("aurora")  # takes the newest dataset
    with pytest.raises(grpc.aio.AioRpcError) as not_judging:
        await import_adapter(trainer, adapter, judging_dataset=adapter)

    assert reason_of(no_adapter.value) == "NOT_AN_ADAPTER"
    assert reason_of(no_data.value) == reason_of(not_judging.value) == "NOT_TRAINING_DATA"


async def test_an_upload_goes_on_after_a_restart_and_leftovers_are_cleared(trainer: Trainer, tmp_path: Path) -> None:
    """What was sent stays; what a killed import was working on goes."""
    packed = pack(write_foreign(tmp_path / "adapter", PEFT))
    dataset = await trainer.begin_dataset("aurora", adapter_upload())
    await trainer.append(dataset, packed[:10_000])
    await trainer.stop()
    imports = trainer.folder / "state" / "imports"
    write_foreign(imports / "tmp-killed" / "source", PEFT)
    await trainer.start()
    left = list(imports.iterdir())
    await trainer.append(dataset, packed[10_000:], offset=10_000)
    finished = await trainer.finalize(dataset, hashlib.sha256(packed).hexdigest())
    version = await import_adapter(trainer, dataset)

    assert (left, finished.state, finished.report.num_entries) == ([], dataset_pb2.Dataset.STATE_READY, 2)
    assert version.state == UNJUDGED


async def test_an_adapter_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """The chunk that would pass it is refused, with the limit and the way out."""
    async with Trainer(tmp_path / "trainer", max_adapter_bytes=1000, max_dataset_bytes=10) as trainer:
        await trainer.add_tenant("aurora")
        dataset = await trainer.begin_dataset("aurora", adapter_upload())
        await trainer.append(dataset, b"x" * 1000)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await trainer.append(dataset, b"x", offset=1000)

    assert (reason_of(refused.value), "at most 1000" in str(refused.value.details())) == ("TOO_LARGE", True)


async def test_a_foreign_tenants_things_are_not_found(trainer: Trainer, tmp_path: Path) -> None:
    """Neither its bot nor what it uploaded, named by whomever."""
    stranger = await trainer.add_tenant("borealis")
    bot = await trainer.add_bot("borealis")
    dataset = await upload(trainer, write_foreign(tmp_path / "adapter", PEFT))
    for fields in (
        {"parent": BOT, "dataset": dataset},
        {"parent": bot, "dataset": dataset},
        {"parent": bot, "dataset": "tenants/borealis/datasets/none"},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await import_adapter(trainer, **fields, key=stranger)
        assert reason_of(refused.value) == "NOT_FOUND"


@pytest.fixture
async def judged(tmp_path: Path) -> AsyncIterator[JudgedImport]:
    """Import an adapter with rows to judge it by, on a trainer whose workers behave as told."""
    async with AsyncExitStack() as stack:

        async def import_on(behaviour: str) -> tuple[Trainer, version_pb2.Version]:
            trainer = await stack.enter_async_context(Trainer(tmp_path / "trainer", behaviour=behaviour))
            await trainer.add_tenant("aurora")
            await trainer.add_bot("aurora")
            rows = await trainer.add_dataset("aurora")
            adapter = await upload(trainer, write_foreign(tmp_path / "adapter", PEFT))
            return trainer, await import_adapter(trainer, adapter, judging_dataset=rows)

        yield import_on


async def test_rows_make_it_ready(judged: JudgedImport) -> None:
    """A job that trains nothing judges it by the bot's gate; the version says how, and may be promoted without a reason."""
    trainer, imported = await judged("succeed")
    job = await trainer.ended(imported.lineage.training_job)
    version = (await list_versions(trainer))[0]
    bot = await promote(trainer, version.name)

    assert imported.state == UNJUDGED
    assert imported.lineage.training_job in imported.rejection
    assert (job.state, job.version) == (training_job_pb2.TrainingJob.STATE_SUCCEEDED, version.name)
    assert job.judges_only
    assert (version.state, version.rejection, version.digest) == (READY, "", imported.digest)
    assert (version.evaluation.num_held_out_rows > 0, version.evaluation.num_train_rows) == (True, 0)
    assert "trained elsewhere" in version.evaluation.notes[-1]
    assert version.lineage.dataset_digest
    assert version.lineage.imported == imported.lineage.imported
    assert set(version.lineage.phase_peak_bytes) == set(version.lineage.predicted_phase_bytes) == {"load", "evaluate"}
    assert bot.routes.production == version.name


async def test_the_gate_rejects_it_as_one_that_was_trained(judged: JudgedImport) -> None:
    """With the numbers; a reason still lets it through."""
    trainer, imported = await judged("learn_wrong_answers")
    await trainer.ended(imported.lineage.training_job)
    version = (await list_versions(trainer))[0]

    assert version.state == version_pb2.Version.STATE_REJECTED
    assert "the gate wants 0.35 more than the base" in version.rejection
    assert (await promote(trainer, version.name, "Its wordings differ.")).routes.production == version.name


async def test_a_job_that_fails_leaves_it_unjudged(judged: JudgedImport) -> None:
    """The version stays, says that it was not judged and where to look, and nobody takes it for READY."""
    trainer, imported = await judged("run_out_of_memory")
    job = await trainer.ended(imported.lineage.training_job)
    version = (await list_versions(trainer))[0]

    assert job.state == training_job_pb2.TrainingJob.STATE_FAILED
    assert (version.state, job.name in version.rejection) == (UNJUDGED, True)


async def test_what_is_decided_while_it_is_judged_stays(judged: JudgedImport) -> None:
    """A version that somebody let through keeps its reason and answers, whatever the job finds; a cancelled job finds nothing."""
    trainer, imported = await judged("work_until_stopped")
    await trainer.reached(imported.lineage.training_job, "RUNNING")
    await promote(trainer, imported.name, "We cannot wait.")
    cancel = trainer_service_pb2.CancelTrainingJobRequest(name=imported.lineage.training_job)
    await trainer.jobs.CancelTrainingJob(cancel, metadata=trainer.admin)
    job = await trainer.ended(imported.lineage.training_job)
    version = (await list_versions(trainer))[0]

    assert job.state == training_job_pb2.TrainingJob.STATE_CANCELLED
    assert (version.state, version.gate_override.reason) == (READY, "We cannot wait.")
    assert not version.HasField("evaluation")


async def test_bad_fields_are_refused(trainer: Trainer) -> None:
    """All that are wrong, at once."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await import_adapter(trainer, "tenants/aurora/datasets/ds-1", origin="x" * 1001, memory_limit_bytes=-1)

    assert fields_of(refused.value) == ["origin", "memory_limit_bytes"]
