"""From a job to a version, through the trainer's own door, with workers that end in every way."""

from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from adaptory.registry.v1 import bot_pb2, registry_service_pb2, version_pb2
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.fakes.trainer import FAQ_LINES, LIMIT_BYTES, SUPPORT_LINES, Trainer, detail_of, faq_jsonl, support_dataset
from tests.fakes.worker import HELD_OUT_LOSSES, PEAK_BYTES, PHASE_PEAK_BYTES
from trainer_svc.bots.faq import NUM_REWORDINGS

Job = training_job_pb2.TrainingJob


async def cancel(trainer: Trainer, job: str) -> Job:
    """Ask a job to stop."""
    request = trainer_service_pb2.CancelTrainingJobRequest(name=job)
    return await trainer.jobs.CancelTrainingJob(request, metadata=trainer.admin)


async def run(trainer: Trainer) -> Job:
    """Submit a job and return it once it has ended."""
    await trainer.add_tenant("aurora")
    return await trainer.ended((await trainer.submit("aurora")).name)


async def read_held_out(trainer: Trainer, job: str) -> dict[int, float]:
    """Return the losses on held-out rows that whoever watches a job is told, by step."""
    request = trainer_service_pb2.WatchTrainingJobRequest(name=job)
    told = [event.progress async for event in trainer.jobs.WatchTrainingJob(request, metadata=trainer.admin)]
    return {progress.step: progress.held_out_loss for progress in told if progress.HasField("held_out_loss")}


def reason_of(job: Job) -> str:
    """Return the reason for which a job failed."""
    return str(detail_of(job.error, error_details_pb2.ErrorInfo).reason)


async def test_a_job_makes_a_ready_version(trainer: Trainer) -> None:
    """A job that succeeds names a version that is READY and says where it comes from."""
    await trainer.add_tenant("aurora")
    version = await trainer.train("aurora")

    assert version.state == version_pb2.Version.STATE_READY
    assert all((version.lineage.dataset_digest, version.lineage.parity_digest, version.lineage.template_digest))
    assert (version.lineage.measured_peak_bytes, version.lineage.memory_limit_bytes) == (PEAK_BYTES, LIMIT_BYTES)


async def test_a_version_keeps_the_planned_and_the_measured_peak_of_every_phase(trainer: Trainer) -> None:
    """What was predicted stands beside what was measured, phase by phase, with the techniques the job ended on."""
    await trainer.add_tenant("aurora")
    job = await trainer.submit("aurora")
    request = registry_service_pb2.GetVersionRequest(name=(await trainer.ended(job.name)).version)
    lineage = (await trainer.registry.GetVersion(request, metadata=trainer.admin)).lineage

    assert lineage.phase_peak_bytes == PHASE_PEAK_BYTES
    assert lineage.predicted_phase_bytes == job.plan.phases
    assert (max(job.plan.phases.values()), set(job.plan.phases)) == (
        job.plan.predicted_peak_bytes,
        set(PHASE_PEAK_BYTES),
    )
    assert (lineage.num_climbs, lineage.final_techniques) == (0, job.plan.summary)


async def test_a_version_says_of_which_step_its_adapter_is(trainer: Trainer) -> None:
    """The best step and the steps that were run stand with the settings that led to them, and each measurement was told."""
    await trainer.add_tenant("aurora")
    job = await trainer.submit("aurora", early_stopping_patience=0)
    request = registry_service_pb2.GetVersionRequest(name=(await trainer.ended(job.name)).version)
    lineage = (await trainer.registry.GetVersion(request, metadata=trainer.admin)).lineage

    assert (lineage.best_step, lineage.num_steps, lineage.settings["early_stopping_patience"]) == (1, 2, "0")
    assert await read_held_out(trainer, job.name) == HELD_OUT_LOSSES


async def test_every_fact_is_taught_where_each_is_asked_in_one_way(trainer: Trainer) -> None:
    """Without second wordings nothing is kept from training: what is judged by is a question reworded, and others are learned."""
    await trainer.add_tenant("aurora")
    lines = [{name: value for name, value in line.items() if name != "wordings"} for line in FAQ_LINES]
    await trainer.add_dataset("aurora", faq_jsonl(lines))
    job = await trainer.submit("aurora")
    request = registry_service_pb2.GetVersionRequest(name=(await trainer.ended(job.name)).version)
    version = await trainer.registry.GetVersion(request, metadata=trainer.admin)
    asked = {line["question"] for line in lines}
    judged = {sample.question for sample in version.evaluation.samples}

    assert (version.evaluation.num_train_rows, version.evaluation.num_held_out_rows) == (
        len(lines) * (1 + NUM_REWORDINGS),
        1,
    )
    assert judged
    assert asked.isdisjoint(judged)


async def test_conversations_make_a_version_of_a_support_bot(trainer: Trainer) -> None:
    """A support bot is trained on whole conversations, of which one is held out, by the recipe of its kind."""
    await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora", "desk", kind=bot_pb2.BOT_KIND_SUPPORT)
    await trainer.add_dataset("aurora", faq_jsonl(SUPPORT_LINES), support_dataset())
    job = await trainer.submit("aurora")
    request = registry_service_pb2.GetVersionRequest(name=(await trainer.ended(job.name)).version)
    version = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert (version.state, version.system_prompt) == (version_pb2.Version.STATE_READY, "Answer.")
    assert (version.evaluation.num_train_rows, version.evaluation.num_held_out_rows) == (7, 1)
    assert (job.settings.learning_rate, job.settings.epochs, job.settings.max_row_tokens) == (0.0005, 10, 2048)


async def test_every_row_is_trained_on_or_held_out(trainer: Trainer) -> None:
    """Six entries of two wordings are twelve rows; none is lost and one is held out."""
    await trainer.add_tenant("aurora")
    evaluation = (await trainer.train("aurora")).evaluation

    assert (evaluation.num_train_rows, evaluation.num_held_out_rows) == (11, 1)


async def test_versions_count_up_per_bot_and_engine_ids_over_all(trainer: Trainer) -> None:
    """Each bot's versions begin at 1; the engine's numbers never repeat, whoever owns the version."""
    for tenant in ("aurora", "borealis"):
        await trainer.add_tenant(tenant)
    made = [await trainer.train(tenant, seed=seed) for tenant in ("aurora", "borealis") for seed in (1, 2)]

    assert [version.name.rpartition("/")[2] for version in made] == ["1", "2", "1", "2"]
    assert [version.engine_id for version in made] == [1, 2, 3, 4]


async def test_a_worse_adapter_is_rejected_by_the_gate(tmp_path: Path) -> None:
    """The job succeeds, its version is kept to look at, and says why it may not answer."""
    async with Trainer(tmp_path, behaviour="learn_nothing") as trainer:
        job = await run(trainer)
        request = registry_service_pb2.GetVersionRequest(name=job.version)
        version = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert (job.state, version.state) == (Job.STATE_SUCCEEDED, version_pb2.Version.STATE_REJECTED)
    assert "2.5" in version.rejection


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("run_out_of_memory", "OUT_OF_MEMORY"),
        ("refuse_data", "ROWS_WITHOUT_LABEL"),
        ("swap_adapter", "ADAPTER_CHANGED"),
        ("die", "WORKER_LOST"),
    ],
)
async def test_a_failed_worker_fails_its_job_with_a_reason(tmp_path: Path, behaviour: str, reason: str) -> None:
    """Whatever becomes of a worker, the job ends, says why, and has no version."""
    async with Trainer(tmp_path, behaviour=behaviour) as trainer:
        job = await run(trainer)

    assert (job.state, reason_of(job), job.version) == (Job.STATE_FAILED, reason, "")


async def test_out_of_memory_tells_the_numbers(tmp_path: Path) -> None:
    """The error has phase, both peaks, limit, climbs, and the plan that takes least with the limit predicted to do for it."""
    async with Trainer(tmp_path, behaviour="run_out_of_memory") as trainer:
        job = await run(trainer)
    numbers = detail_of(job.error, error_details_pb2.ErrorInfo).metadata

    assert (numbers["phase"], numbers["num_climbs"]) == ("step", "1")
    assert (int(numbers["peak_bytes"]), int(numbers["limit_bytes"])) == (PEAK_BYTES, LIMIT_BYTES)
    assert int(numbers["predicted_peak_bytes"]) == job.plan.predicted_peak_bytes
    assert int(numbers["smallest_limit_bytes"]) == job.plan.smallest_limit_bytes
    assert "micro-batches of 1 row" in numbers["nearest_plan"]
    assert all(
        numbers[name] in job.error.message for name in ("phase", "peak_bytes", "predicted_peak_bytes", "nearest_plan")
    )


async def test_a_failed_job_keeps_what_it_measured(tmp_path: Path) -> None:
    """The phases it came to and its climbs are there to look at, though it has no version."""
    async with Trainer(tmp_path, behaviour="run_out_of_memory") as trainer:
        job = await run(trainer)

    assert (job.state, job.measured_peak_bytes, job.num_climbs) == (Job.STATE_FAILED, PEAK_BYTES, 1)
    assert job.measured_phase_bytes == {phase: PHASE_PEAK_BYTES[phase] for phase in ("load", "step")}


async def test_a_job_whose_worker_is_killed_is_tried_once_more(tmp_path: Path) -> None:
    """The second attempt's version is the job's only one, and the history tells of the first."""
    async with Trainer(tmp_path, behaviour="die_once") as trainer:
        job = await run(trainer)
        messages = [event.message async for event in trainer.watch(job.name) if event.message]

    assert (job.state, job.version.rpartition("/")[2]) == (Job.STATE_SUCCEEDED, "1")
    assert "signal 9" in messages[0]


async def test_a_climb_is_an_event_with_its_numbers(tmp_path: Path) -> None:
    """A watcher learns where memory ran out and by which techniques the job goes on, which its version keeps too."""
    async with Trainer(tmp_path, behaviour="climb_once") as trainer:
        job = await run(trainer)
        events = [event async for event in trainer.watch(job.name)]
        request = registry_service_pb2.GetVersionRequest(name=job.version)
        lineage = (await trainer.registry.GetVersion(request, metadata=trainer.admin)).lineage
    climbs = [event.climb for event in events if event.WhichOneof("event") == "climb"]

    assert [(climb.phase, climb.step, climb.peak_bytes) for climb in climbs] == [("step", 0, PEAK_BYTES)]
    assert 0 < climbs[0].micro_batch_rows <= job.plan.micro_batch_rows
    assert 0 < climbs[0].predicted_peak_bytes < job.plan.predicted_peak_bytes
    assert climbs[0].summary in climbs[0].message
    assert (lineage.num_climbs, lineage.final_techniques) == (1, climbs[0].summary)


async def test_a_hung_worker_is_killed(tmp_path: Path) -> None:
    """A worker without a sign of life does not block the queue."""
    async with Trainer(tmp_path, behaviour="hang", heartbeat_timeout_seconds=0.3) as trainer:
        job = await run(trainer)

    assert (job.state, reason_of(job)) == (Job.STATE_FAILED, "WORKER_HUNG")


@pytest.mark.parametrize("behaviour", ["work_until_stopped", "ignore_stop"])
async def test_a_running_job_is_cancelled(tmp_path: Path, behaviour: str) -> None:
    """A worker that ends when asked and one that must be killed both leave a CANCELLED job without a version."""
    async with Trainer(tmp_path, behaviour=behaviour) as trainer:
        await trainer.add_tenant("aurora")
        job = await trainer.submit("aurora")
        await trainer.reached(job.name, "RUNNING")
        cancelling = await cancel(trainer, job.name)
        ended = await trainer.ended(job.name)

    assert (cancelling.state, ended.state) == (Job.STATE_CANCELLING, Job.STATE_CANCELLED)
    assert ended.version == ""


async def test_a_waiting_job_is_cancelled_at_once(tmp_path: Path) -> None:
    """A job behind another never begins."""
    async with Trainer(tmp_path, behaviour="work_until_stopped") as trainer:
        await trainer.add_tenant("aurora")
        first = await trainer.submit("aurora")
        await trainer.reached(first.name, "RUNNING")
        second = await cancel(trainer, (await trainer.submit("aurora")).name)

    assert (second.state, second.HasField("start_time")) == (Job.STATE_CANCELLED, False)


async def test_a_stopped_service_goes_on_with_its_jobs(tmp_path: Path) -> None:
    """A job that ran when the service stopped waits, and is finished by the next start."""
    async with Trainer(tmp_path, behaviour="work_until_stopped") as trainer:
        await trainer.add_tenant("aurora")
        job = await trainer.submit("aurora")
        await trainer.reached(job.name, "RUNNING")

        await trainer.stop()
        trainer.behaviour = "succeed"
        await trainer.start()
        ended = await trainer.ended(job.name)

    assert ended.state == Job.STATE_SUCCEEDED


async def test_nothing_of_a_tenants_data_stays_behind(trainer: Trainer) -> None:
    """When a job has ended its rows and staged files are gone; blobs and the log stay."""
    await trainer.add_tenant("aurora")
    await trainer.train("aurora")
    await trainer.stop()

    state = trainer.folder / "state"
    assert list((state / "workspaces").iterdir()) == []
    assert list((state / "uploads").iterdir()) == []
    assert len(list((state / "logs").iterdir())) == 1


async def test_a_watch_resumes_where_it_stopped(trainer: Trainer) -> None:
    """Events count from 1 without gaps, and a watch goes on behind the last one seen."""
    job = (await run(trainer)).name
    every = [event.sequence async for event in trainer.watch(job)]
    rest = [event.sequence async for event in trainer.watch(job, after=3)]

    assert every == list(range(1, len(every) + 1))
    assert rest == every[3:]


async def test_a_start_clears_what_a_killed_service_left(trainer: Trainer) -> None:
    """Half-written blobs, workspaces nobody works in and spool files of no upload are gone after the next start."""
    state = trainer.folder / "state"
    await trainer.stop()
    (state / "workspaces" / "job-1").mkdir()
    left = [
        state / "artifacts" / "aside" / "half",
        state / "uploads" / "ds-1",
        state / "workspaces" / "job-1" / "train.jsonl",
    ]
    for path in left:
        path.write_text("left")
    await trainer.start()

    assert [path.exists() for path in left] == [False] * len(left)
