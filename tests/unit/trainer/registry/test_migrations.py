"""A database that an earlier release wrote."""

import sqlite3
from pathlib import Path

from adaptory.registry.v1 import registry_service_pb2
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.fakes.trainer import Trainer
from tests.fakes.worker import PEAK_BYTES

_BACK_TO_0001 = """
    DROP TABLE memory_residuals;
    ALTER TABLE training_jobs DROP COLUMN measured_phase_bytes;
    ALTER TABLE training_jobs DROP COLUMN num_climbs;
    ALTER TABLE bots DROP COLUMN gate;
    ALTER TABLE bots DROP COLUMN refusal_text;
    ALTER TABLE bots DROP COLUMN unanswerable;
    ALTER TABLE bots DROP COLUMN style_rules;
    ALTER TABLE bots DROP COLUMN shadow;
    ALTER TABLE bots DROP COLUMN shadow_percent;
    ALTER TABLE bots DROP COLUMN answer_schema;
    ALTER TABLE bots DROP COLUMN canary;
    ALTER TABLE bots DROP COLUMN canary_percent;
    ALTER TABLE bots DROP COLUMN canary_end;
    ALTER TABLE versions DROP COLUMN gate_override;
    UPDATE versions SET lineage =
        json_remove(lineage, '$.predicted_phase_bytes', '$.num_climbs', '$.final_techniques', '$.refusal_text',
        '$.num_refusal_rows');
    UPDATE versions SET evaluation =
        json_remove(evaluation, '$.base_general_loss', '$.adapter_general_loss', '$.scores', '$.samples');
    UPDATE training_jobs SET plan = json_remove(plan, '$.device', '$.residual_bytes');
    UPDATE alembic_version SET version_num = '0001';
"""


def go_back_to_0001(state: Path) -> None:
    """Make the database of a stopped trainer what the first release would have left."""
    connection = sqlite3.connect(state / "registry.db")
    try:
        connection.executescript(_BACK_TO_0001)
    finally:
        connection.close()


async def test_jobs_and_versions_of_the_first_schema_are_kept(trained: Trainer) -> None:
    """What was recorded is still there, what was not is empty, and the next job is trained."""
    await trained.stop()
    go_back_to_0001(trained.folder / "state")
    await trained.start()

    request = trainer_service_pb2.ListTrainingJobsRequest(parent="tenants/aurora")
    jobs = (await trained.jobs.ListTrainingJobs(request, metadata=trained.admin)).training_jobs
    assert [(job.state, job.measured_peak_bytes) for job in jobs] == [
        (training_job_pb2.TrainingJob.STATE_SUCCEEDED, PEAK_BYTES)
    ] * 2
    assert [(len(job.measured_phase_bytes), job.num_climbs) for job in jobs] == [(0, 0)] * 2

    version = registry_service_pb2.GetVersionRequest(name=jobs[0].version)
    found = await trained.registry.GetVersion(version, metadata=trained.admin)
    lineage = found.lineage
    assert (len(found.evaluation.scores), found.evaluation.base_general_loss) == (0, 0)
    assert not found.HasField("gate_override")
    assert (lineage.measured_peak_bytes, len(lineage.predicted_phase_bytes), lineage.final_techniques) == (
        PEAK_BYTES,
        0,
        "",
    )
    assert len((await trained.train("aurora", seed=3)).lineage.predicted_phase_bytes) > 0
