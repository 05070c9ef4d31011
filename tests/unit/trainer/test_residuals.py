"""What plans learn from the jobs before them, through the trainer's own door."""

from pathlib import Path

import pytest

from adaptory.trainer.v1 import training_job_pb2
from tests.fakes.trainer import LIMIT_BYTES, Trainer
from tests.fakes.worker import PEAK_BYTES, SMALL_PEAK_BYTES


async def plan(trainer: Trainer) -> training_job_pb2.MemoryPlan:
    """Validate the job that `train` trains, and return its plan."""
    return (await trainer.submit("aurora", validate_only=True)).plan


async def train(trainer: Trainer, *, num_jobs: int) -> None:
    """Train so many jobs of aurora's, one after the other."""
    for _ in range(num_jobs):
        await trainer.ended((await trainer.submit("aurora")).name)


async def test_the_fourth_plan_has_learned_from_three_jobs(trainer: Trainer) -> None:
    """Two jobs change nothing; after three alike the plan says what they took, in every phase."""
    await trainer.add_tenant("aurora")
    first = await plan(trainer)
    await train(trainer, num_jobs=2)
    third = await plan(trainer)
    await train(trainer, num_jobs=1)
    fourth = await plan(trainer)

    learned_bytes = PEAK_BYTES - first.predicted_peak_bytes
    assert third.predicted_peak_bytes == first.predicted_peak_bytes != PEAK_BYTES
    assert fourth.predicted_peak_bytes == PEAK_BYTES <= LIMIT_BYTES
    assert {phase: fourth.phases[phase] - first.phases[phase] for phase in first.phases} == dict.fromkeys(
        first.phases, learned_bytes
    )
    assert fourth.smallest_limit_bytes == first.smallest_limit_bytes + learned_bytes


async def test_what_was_learned_is_kept_by_the_jobs_planned_with_it(tmp_path: Path) -> None:
    """A job whose plan has learned is compared with what was predicted without: its plan being right is no reason to forget."""
    async with Trainer(tmp_path, behaviour="take_little") as trainer:
        await trainer.add_tenant("aurora")
        await train(trainer, num_jobs=4)

        assert (await plan(trainer)).predicted_peak_bytes == SMALL_PEAK_BYTES


async def test_a_plan_gives_up_half_of_its_context_at_most(tmp_path: Path) -> None:
    """However little jobs took, the rest of the prediction is the model's, and it stays so."""
    async with Trainer(tmp_path, behaviour="take_nothing") as trainer:
        await trainer.add_tenant("aurora")
        first = await plan(trainer)
        await train(trainer, num_jobs=3)
        fourth = await plan(trainer)
        await train(trainer, num_jobs=1)
        fifth = await plan(trainer)

    assert fourth.terms["context"] == first.terms["context"] // 2
    assert {**fourth.terms, "context": 0} == {**first.terms, "context": 0}
    assert fifth.predicted_peak_bytes == fourth.predicted_peak_bytes


@pytest.mark.parametrize("behaviour", ["climb_once", "run_out_of_memory"])
async def test_jobs_that_did_not_do_what_was_planned_teach_nothing(tmp_path: Path, behaviour: str) -> None:
    """The peak of a job that climbed or failed is that of another plan, or of none."""
    async with Trainer(tmp_path, behaviour=behaviour) as trainer:
        await trainer.add_tenant("aurora")
        first = await plan(trainer)
        await train(trainer, num_jobs=3)

        assert (await plan(trainer)).predicted_peak_bytes == first.predicted_peak_bytes
