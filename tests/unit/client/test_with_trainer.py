"""The client against the real trainer, whose worker alone is a fake."""

from contextlib import aclosing
from pathlib import Path

import pytest

from adaptory.client import AdaptoryClient, Patience, Upload
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL, Dataset
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1.training_job_pb2 import TrainingEvent, TrainingJob
from tests.fakes import base
from tests.fakes.trainer import FAQ_LINES, LIMIT_BYTES, Trainer, faq_jsonl
from tests.foreign_adapters import TORCHTUNE, write_foreign

TENANT, BOT = "tenants/aurora", "tenants/aurora/bots/faq"
PATIENCE = Patience(first_s=0.02, longest_s=0.1, max_failures=200)


@pytest.fixture
def faq_file(tmp_path: Path) -> Path:
    """A small FAQ."""
    file = tmp_path / "faq.jsonl"
    file.write_bytes(faq_jsonl(FAQ_LINES))
    return file


def _client(trainer: Trainer) -> AdaptoryClient:
    key = (trainer.folder / "state" / "admin.key").read_text().strip()
    return AdaptoryClient(key, trainer=trainer.endpoint.grpc, patience=PATIENCE)


async def _begin_job(client: AdaptoryClient, file: Path) -> TrainingJob:
    await client.tenants.create("aurora")
    await client.bots.create(TENANT, "faq", Bot(kind=BOT_KIND_FAQ, base_model=base.NAME))
    dataset = await client.datasets.upload(TENANT, Upload(file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL))
    assert dataset.state == Dataset.STATE_READY
    wanted = TrainingJob(bot=BOT, dataset=dataset.name, memory_limit_bytes=LIMIT_BYTES)
    return await client.jobs.create(wanted)


async def test_file_becomes_the_version_that_answers(tmp_path: Path, faq_file: Path) -> None:
    """Tenant, bot, upload, job, watch and promotion work with the service they are written for."""
    async with Trainer(tmp_path) as trainer, _client(trainer) as client:
        job = await _begin_job(client, faq_file)
        events = [event async for event in client.jobs.watch(job.name)]
        version = (await client.jobs.get(job.name)).version
        bot = await client.bots.promote(version)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert bot.routes.production == version == f"{BOT}/versions/1"


async def test_an_adapter_from_elsewhere_becomes_a_version_and_is_judged(tmp_path: Path, faq_file: Path) -> None:
    """Upload, import and judging work with the service they are written for."""
    folder = write_foreign(tmp_path / "adapter", TORCHTUNE)
    async with Trainer(tmp_path / "trainer") as trainer, _client(trainer) as client:
        await client.tenants.create("aurora")
        await client.bots.create(TENANT, "faq", Bot(kind=BOT_KIND_FAQ, base_model=base.NAME))
        rows = await client.datasets.upload(TENANT, Upload(faq_file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL))
        uploaded = await client.datasets.upload_adapter(TENANT, folder, BOT_KIND_FAQ)
        imported = await client.bots.import_adapter(BOT, uploaded.name, origin="our lab", judging_dataset=rows.name)
        async for _ in client.jobs.watch(imported.lineage.training_job):
            pass
        judged = await client.bots.get_version(imported.name)
    assert (imported.state, judged.state) == (Version.STATE_UNJUDGED, Version.STATE_READY)
    assert judged.lineage.imported.origin == "our lab"


async def test_watch_outlives_a_restart_of_the_trainer(tmp_path: Path, faq_file: Path) -> None:
    """A watcher sees the job to its end, every event once, although the trainer went away and began the job anew."""
    events: list[TrainingEvent] = []
    async with Trainer(tmp_path, behaviour="work_until_stopped") as trainer, _client(trainer) as client:
        job = await _begin_job(client, faq_file)
        async with aclosing(client.jobs.watch(job.name)) as watch:
            async for event in watch:
                events.append(event)
                if event.state == TrainingJob.STATE_RUNNING and trainer.behaviour != "succeed":
                    trainer.behaviour, trainer.overrides["address"] = "succeed", trainer.endpoint.grpc
                    await trainer.stop()
                    await trainer.start()
    assert events[-1].state == TrainingJob.STATE_SUCCEEDED
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
