"""What jobs are taken, planned and refused, through the trainer's own door."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, dataset_pb2
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.fakes.trainer import SUPPORT_LINES, Trainer, faq_jsonl, fields_of, info_of, reason_of
from trainer_svc.bots.faq import NUM_REWORDINGS
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.memory.speed import SpeedFile, assume_speed

SETTINGS = "training_job.settings"

_FAKE_MEASUREMENT = """
import sys
from pathlib import Path
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.memory.speed import SpeedFile, assume_speed
device = LocalMachine(Path(sys.argv[1]).parent).device
SpeedFile(Path(sys.argv[1])).write(device, assume_speed(device))
"""


@pytest.fixture
async def job(trainer: Trainer) -> training_job_pb2.TrainingJob:
    """What a good job of aurora's is asked for by."""
    await trainer.add_tenant("aurora")
    bot, dataset = await trainer.add_bot("aurora"), await trainer.add_dataset("aurora")
    return training_job_pb2.TrainingJob(bot=bot, dataset=dataset, memory_limit_bytes=1 << 30)


async def create(trainer: Trainer, job: training_job_pb2.TrainingJob, **fields: Any) -> training_job_pb2.TrainingJob:
    """Submit a job."""
    request = trainer_service_pb2.CreateTrainingJobRequest(parent="tenants/aurora", training_job=job, **fields)
    return await trainer.jobs.CreateTrainingJob(request, metadata=trainer.admin)


async def plan(trainer: Trainer, job: training_job_pb2.TrainingJob) -> training_job_pb2.MemoryPlan:
    """Ask how a job would keep its limit."""
    request = trainer_service_pb2.PlanTrainingJobRequest(parent="tenants/aurora", training_job=job)
    return await trainer.jobs.PlanTrainingJob(request, metadata=trainer.admin)


async def refused(trainer: Trainer, job: training_job_pb2.TrainingJob, **fields: Any) -> grpc.aio.AioRpcError:
    """Return the error a job is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await create(trainer, job, **fields)
    return error.value


async def list_jobs(trainer: Trainer) -> list[str]:
    """Return the names of aurora's jobs."""
    request = trainer_service_pb2.ListTrainingJobsRequest(parent="tenants/aurora")
    return [job.name for job in (await trainer.jobs.ListTrainingJobs(request, metadata=trainer.admin)).training_jobs]


async def test_what_is_left_out_takes_the_recipe(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """The job says every setting it will be trained with, given ones and those of the recipe."""
    job.settings.epochs = 3
    settings = (await create(trainer, job)).settings

    assert (settings.epochs, settings.rank, settings.alpha, settings.batch_rows) == (3, 16, 32, 8)
    assert (settings.learning_rate, settings.max_row_tokens, settings.held_out_share) == (0.001, 2048, 0.2)
    assert settings.early_stopping_patience == 7


async def test_every_bad_field_is_told_at_once(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """A caller learns of all that is wrong with a job in one answer."""
    settings = training_job_pb2.TrainingSettings(
        rank=65,
        alpha=0,
        learning_rate=1,
        epochs=0,
        batch_rows=0,
        max_row_tokens=15,
        seed=-1,
        max_steps=0,
        held_out_share=0.6,
        early_stopping_patience=-1,
    )
    bad = training_job_pb2.TrainingJob(bot="faq", dataset="", settings=settings, memory_limit_bytes=-1)
    named = [field.name for field, _ in settings.ListFields()]

    assert sorted(fields_of(await refused(trainer, bad))) == sorted(
        ["training_job.bot", "training_job.dataset", "training_job.memory_limit_bytes"]
        + [f"{SETTINGS}.{name}" for name in named]
    )


async def test_a_limit_that_cannot_be_kept_is_refused_with_one_that_can(
    trainer: Trainer, job: training_job_pb2.TrainingJob
) -> None:
    """The smallest limit the error names is a limit with which the job is taken."""
    job.memory_limit_bytes = 1
    error = await refused(trainer, job)
    job.memory_limit_bytes = int(info_of(error).metadata["smallest_limit_bytes"])

    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "DOES_NOT_FIT")
    assert (await create(trainer, job)).name


async def test_a_plan_keeps_its_limit_and_creates_nothing(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """The predicted peak is within the limit, and no job is there afterwards."""
    made = await plan(trainer, job)

    assert 0 < made.predicted_peak_bytes <= made.limit_bytes == job.memory_limit_bytes
    assert await list_jobs(trainer) == []


async def test_a_plan_says_its_techniques(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """With room nothing is given up; under the smallest limit something is, and the fields say what the sentence says."""
    roomy = await plan(trainer, job)
    job.memory_limit_bytes = roomy.smallest_limit_bytes
    tight = await plan(trainer, job)

    assert (roomy.recompute, roomy.moments, list(roomy.offloaded)) == ("none", "fp32", [])
    assert set(tight.offloaded) <= {"moments", "activations", "frozen weights"}
    assert len(tight.offloaded) == tight.summary.count("on disk") > 0
    assert all(
        words in tight.summary
        for words in (
            f"{tight.recompute} recomputation",
            f"{tight.moments} moments",
            f"blocks of {tight.loss_block_tokens} tokens",
        )
    )


async def test_no_limit_is_all_the_machine_has(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """A job without a limit is planned for what is free now."""
    job.memory_limit_bytes = 0

    assert (await plan(trainer, job)).limit_bytes > 0


async def test_validating_creates_nothing(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """A dry run returns the plan without a name."""
    checked = await create(trainer, job, validate_only=True)

    assert (checked.name, checked.plan.limit_bytes) == ("", job.memory_limit_bytes)
    assert checked.plan.compute == "bf16"
    assert await list_jobs(trainer) == []


async def test_the_same_request_makes_one_job(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """A request sent twice returns the job it made; the id with another request is refused."""
    names = {(await create(trainer, job, request_id="once")).name for _ in range(2)}
    job.settings.epochs = 2
    error = await refused(trainer, job, request_id="once")

    assert (len(names), len(await list_jobs(trainer))) == (1, 1)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_an_unknown_bot_or_dataset_is_not_found(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """The error has the name that does not exist."""
    for field, name in (("bot", "tenants/aurora/bots/gone"), ("dataset", "tenants/aurora/datasets/gone")):
        other = training_job_pb2.TrainingJob()
        other.CopyFrom(job)
        setattr(other, field, name)

        assert info_of(await refused(trainer, other)).metadata["name"] == name


async def test_another_tenants_dataset_is_not_found(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """A job of one tenant never reads the data of another, whoever submits it."""
    await trainer.add_tenant("borealis")
    job.dataset = await trainer.add_dataset("borealis")

    assert reason_of(await refused(trainer, job)) == "NOT_FOUND"


@pytest.mark.parametrize("data", [b"", b"no json\n"])
async def test_data_that_is_not_ready_is_refused(
    trainer: Trainer, job: training_job_pb2.TrainingJob, data: bytes
) -> None:
    """Neither an upload under way nor rejected data can be trained on."""
    job.dataset = await (trainer.add_dataset("aurora", data) if data else trainer.begin_dataset("aurora"))

    assert reason_of(await refused(trainer, job)) == "DATASET_NOT_READY"


async def test_rows_that_are_too_long_are_refused_with_the_numbers(
    trainer: Trainer, job: training_job_pb2.TrainingJob
) -> None:
    """Nothing is clipped: the error says how many rows are too long, rewordings included, and how long the longest is."""
    rows = [{"question": "Short?", "answer": "Yes."}, {"question": "Long?", "answer": "y" * 300}]
    job.dataset = await trainer.add_dataset("aurora", faq_jsonl(rows))
    job.settings.max_row_tokens = 200
    error = await refused(trainer, job)

    assert fields_of(error) == [f"{SETTINGS}.max_row_tokens"]
    # The question, the rewording that would judge, and those that would be learned.
    assert info_of(error).metadata["num_long_rows"] == str(2 + NUM_REWORDINGS)
    assert int(info_of(error).metadata["longest_row_tokens"]) > 300


async def test_the_bases_limit_is_told(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """Rows cannot be longer than the base can read."""
    job.settings.max_row_tokens = 2049

    assert info_of(await refused(trainer, job)).metadata["base_max_tokens"] == "2048"


async def test_preference_pairs_are_judged_and_not_trained_on(
    trainer: Trainer, job: training_job_pb2.TrainingJob
) -> None:
    """They become READY; a job on them is UNIMPLEMENTED and says what is trained on."""
    pairs = [
        {"prompt": line["messages"][:1], "chosen": line["messages"][1]["content"], "rejected": "ok"}
        for line in SUPPORT_LINES
    ]
    layout = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_FAQ, format=dataset_pb2.DATASET_FORMAT_PREFERENCE_JSONL)
    job.dataset = await trainer.add_dataset("aurora", faq_jsonl(pairs), layout)
    error = await refused(trainer, job)

    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "CONVERSATION_JSONL" in info_of(error).metadata["trained"]


async def test_methods_of_later_releases_say_so(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """Full tuning and preference pairs are UNIMPLEMENTED."""
    job.settings.method = training_job_pb2.TRAINING_METHOD_DPO

    assert (await refused(trainer, job)).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_lora_learns_on_the_original_values(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """The plan holds the base in bf16, or int8 where the limit wants it, and the job says by which method it is trained."""
    job.settings.method = training_job_pb2.TRAINING_METHOD_LORA
    made = await create(trainer, job)

    assert made.plan.base_precision == "bf16"
    assert made.settings.method == training_job_pb2.TRAINING_METHOD_LORA
    assert (await trainer.ended(made.name)).settings.method == training_job_pb2.TRAINING_METHOD_LORA


async def test_a_plan_comes_with_smaller_and_slower_ones(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """Each of the others takes less than all before it, and all keep the limit."""
    found = await plan(trainer, job)

    peaks = [found.predicted_peak_bytes, *(other.predicted_peak_bytes for other in found.alternatives)]
    assert len(peaks) > 1
    assert peaks == sorted(set(peaks), reverse=True)
    assert peaks[0] <= found.limit_bytes
    assert len({found.summary, *(other.summary for other in found.alternatives)}) == len(peaks)


async def test_an_ended_job_cannot_be_cancelled(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """What is final stays as it is."""
    name = (await create(trainer, job)).name
    await trainer.ended(name)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await trainer.jobs.CancelTrainingJob(
            trainer_service_pb2.CancelTrainingJobRequest(name=name), metadata=trainer.admin
        )

    assert reason_of(error.value) == "JOB_ENDED"


async def test_a_limit_above_the_machine_is_refused(trainer: Trainer, job: training_job_pb2.TrainingJob) -> None:
    """Nothing would keep it; the error has what the machine has."""
    job.memory_limit_bytes = 1 << 60
    error = await refused(trainer, job)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert 0 < int(info_of(error).metadata["total_bytes"]) < job.memory_limit_bytes


async def test_a_refused_job_is_told_each_change_that_would_do(
    trainer: Trainer, job: training_job_pb2.TrainingJob
) -> None:
    """The last of them is the limit; with it a job is taken."""
    job.memory_limit_bytes = 1
    changes = json.loads(info_of(await refused(trainer, job)).metadata["changes"])

    assert changes[-1]["what"] == "memory_limit_bytes"
    job.memory_limit_bytes = changes[-1]["proposed"]
    assert 0 < (await plan(trainer, job)).predicted_peak_bytes < job.memory_limit_bytes


async def test_a_plan_tells_its_seconds_once_the_machine_was_measured(
    trainer: Trainer, job: training_job_pb2.TrainingJob
) -> None:
    """Before, it tells none: an assumed speed orders plans, but promises nothing."""
    machine = LocalMachine(trainer.folder / "cache")
    before = (await plan(trainer, job)).expected_seconds
    SpeedFile(machine.speed_file).write(machine.device, replace(assume_speed(machine.device), is_measured=True))

    assert before == 0 < (await plan(trainer, job)).expected_seconds


async def test_a_trainer_measures_its_machine_before_its_first_job(tmp_path: Path) -> None:
    """Once: the second start finds the numbers and measures nothing."""
    measure = (sys.executable, "-c", _FAKE_MEASUREMENT)
    async with Trainer(tmp_path, speed_command=measure):
        machine = LocalMachine(tmp_path / "cache")
        async with asyncio.timeout(30):
            while machine.read_speed() is None:  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.05)
    written = machine.speed_file.stat().st_mtime_ns
    async with Trainer(tmp_path, speed_command=measure):
        await asyncio.sleep(0.2)

    assert machine.speed_file.stat().st_mtime_ns == written


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "raise SystemExit(1)")])
async def test_a_measurement_that_fails_costs_no_job(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The service goes on without it: jobs run, and plans tell no seconds."""
    async with Trainer(tmp_path, speed_command=command) as trainer:
        await trainer.add_tenant("aurora")
        bot, dataset = await trainer.add_bot("aurora"), await trainer.add_dataset("aurora")
        job = training_job_pb2.TrainingJob(bot=bot, dataset=dataset, memory_limit_bytes=1 << 30)
        events = [event async for event in trainer.watch((await create(trainer, job)).name)]

        assert events[-1].state == training_job_pb2.TrainingJob.STATE_SUCCEEDED
        assert (await plan(trainer, job)).expected_seconds == 0
