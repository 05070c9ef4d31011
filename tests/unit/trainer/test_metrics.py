"""What the trainer shows operators."""

import asyncio
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.trainer import LIMIT_BYTES, Trainer
from tests.fakes.worker import PEAK_BYTES, PHASE_PEAK_BYTES

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(trainer: Trainer) -> Samples:
    """Read the metrics as Prometheus does."""
    url = f"http://{trainer.endpoint.metrics}/metrics"

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    families = text_string_to_metric_families(await asyncio.to_thread(fetch))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def scrape_after(trainer: Trainer, *, num_ended: int) -> Samples:
    """Read the metrics once so many jobs are counted: a job is counted when its workspace is cleared, just after its last event."""
    async with asyncio.timeout(10):
        while True:
            samples = await scrape(trainer)
            ended = [value for (name, _), value in samples.items() if name == "adaptory_trainer_jobs_ended_total"]
            if sum(ended) == num_ended:
                return samples


async def test_a_finished_job_is_counted(trainer: Trainer) -> None:
    """Outcome, peak, limit, steps and loss of a job are there for its tenant."""
    await trainer.add_tenant("aurora")
    await trainer.train("aurora")
    samples, tenant = await scrape_after(trainer, num_ended=1), ("tenant", "aurora")

    assert samples["adaptory_trainer_jobs_ended_total", (("outcome", "succeeded"), tenant)] == 1
    assert samples["adaptory_trainer_measured_peak_bytes", (tenant,)] == PEAK_BYTES
    assert samples["adaptory_trainer_memory_limit_bytes", (tenant,)] == LIMIT_BYTES
    assert samples["adaptory_trainer_step_seconds_count", (tenant,)] == 2


async def test_planned_and_measured_peaks_are_shown_by_phase(trainer: Trainer) -> None:
    """Every phase has both, and how far the plan was off is counted once for a job."""
    await trainer.add_tenant("aurora")
    plan = (await trainer.submit("aurora", validate_only=True)).plan
    await trainer.train("aurora")
    samples, tenant = await scrape_after(trainer, num_ended=1), ("tenant", "aurora")

    for name, peaks in (("planned", plan.phases), ("measured", PHASE_PEAK_BYTES)):
        series = f"adaptory_trainer_phase_{name}_peak_bytes"
        assert {phase: samples[series, (("phase", phase), tenant)] for phase in peaks} == peaks
    assert samples["adaptory_trainer_peak_error_ratio_count", ()] == 1
    assert samples["adaptory_trainer_peak_error_ratio_sum", ()] == PEAK_BYTES / plan.predicted_peak_bytes
    assert samples["adaptory_trainer_memory_climbs_total", (tenant,)] == 0


async def test_climbs_and_the_peaks_of_failed_jobs_are_shown(tmp_path: Path) -> None:
    """A phase that a failed job never came to has no peak."""
    async with Trainer(tmp_path, behaviour="run_out_of_memory") as trainer:
        await trainer.add_tenant("aurora")
        await trainer.ended((await trainer.submit("aurora")).name)
        samples, tenant = await scrape_after(trainer, num_ended=1), ("tenant", "aurora")

    measured = "adaptory_trainer_phase_measured_peak_bytes"
    assert samples["adaptory_trainer_memory_climbs_total", (tenant,)] == 1
    assert samples[measured, (("phase", "step"), tenant)] == PHASE_PEAK_BYTES["step"]
    assert samples[measured, (("phase", "save"), tenant)] == 0


async def test_jobs_are_counted_by_state(trainer: Trainer) -> None:
    """The counts come from the database, every state has one, and nothing waits."""
    await trainer.add_tenant("aurora")
    await trainer.train("aurora")
    samples = await scrape(trainer)
    counts = {labels[0][1]: value for (name, labels), value in samples.items() if name == "adaptory_trainer_jobs"}

    assert {state for state, count in counts.items() if count} == {"succeeded"}
    assert samples["adaptory_trainer_queue_age_seconds", ()] == 0


async def test_no_series_is_named_after_a_job(trainer: Trainer) -> None:
    """Another job adds no series."""
    await trainer.add_tenant("aurora")
    await trainer.train("aurora")
    before = (await scrape_after(trainer, num_ended=1)).keys()
    await trainer.train("aurora")

    new = {name for name, _ in (await scrape_after(trainer, num_ended=2)).keys() - before}
    assert {name for name in new if name.startswith("adaptory_")} == set()


async def test_tenants_beyond_the_cap_are_counted_together(trainer: Trainer) -> None:
    """However many tenants there are, the number of series is bounded."""
    await trainer.stop()
    trainer.overrides = {"max_tenant_labels": 1}
    await trainer.start()
    for tenant in ("aurora", "borealis", "cirrus"):
        await trainer.add_tenant(tenant)
        await trainer.train(tenant)
    samples = await scrape_after(trainer, num_ended=3)

    named = {dict(labels)["tenant"] for name, labels in samples if name == "adaptory_trainer_loss"}
    assert named == {"aurora", "other"}
