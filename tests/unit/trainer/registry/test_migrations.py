"""A database that an earlier release wrote."""

import sqlite3
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import create_engine, text

import trainer_svc.registry.migrations
from adaptory.core.names import TenantName, VersionName
from adaptory.core.usage import UsageCounts, UsageKey
from adaptory.registry.v1 import registry_service_pb2
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.fakes.trainer import Trainer
from tests.fakes.worker import PEAK_BYTES
from trainer_svc.clock import read_utc
from trainer_svc.registry.database import Database
from trainer_svc.registry.tenants import TenantChange, TenantLimits, Tenants
from trainer_svc.registry.usage import UsageLedger, UsageReport

_BACK_TO_0001 = """
    DROP TABLE memory_residuals;
    ALTER TABLE training_jobs DROP COLUMN measured_phase_bytes;
    ALTER TABLE training_jobs DROP COLUMN num_climbs;
    ALTER TABLE training_jobs DROP COLUMN judged_files;
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
    ALTER TABLE tenants DROP COLUMN weight;
    ALTER TABLE tenants DROP COLUMN requests_per_minute;
    ALTER TABLE tenants DROP COLUMN tokens_per_minute;
    ALTER TABLE tenants DROP COLUMN tokens_per_day;
    ALTER TABLE tenants DROP COLUMN max_prompt_tokens;
    ALTER TABLE tenants DROP COLUMN max_output_tokens;
    DROP TABLE usage_days;
    DROP TABLE usage_entries;
    DROP TABLE usage_reports;
    PRAGMA writable_schema = ON;
    UPDATE sqlite_schema SET sql = replace(sql, 'training_job TEXT', 'training_job TEXT NOT NULL') WHERE name = 'versions';
    PRAGMA writable_schema = RESET;
    UPDATE versions SET lineage =
        json_remove(lineage, '$.predicted_phase_bytes', '$.num_climbs', '$.final_techniques', '$.refusal_text',
        '$.num_refusal_rows');
    UPDATE versions SET evaluation =
        json_remove(evaluation, '$.base_general_loss', '$.adapter_general_loss', '$.scores', '$.samples');
    UPDATE training_jobs SET plan = json_remove(plan, '$.device', '$.residual_bytes');
    UPDATE alembic_version SET version_num = '0001';
"""


def read_schema(state: Path, table: str) -> str:
    """Return how a table of a stopped trainer was created."""
    connection = sqlite3.connect(state / "registry.db")
    try:
        (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    finally:
        connection.close()
    return " ".join(str(sql).split())


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


def write_database_of_0007(file: Path) -> None:
    """Make a database as the release before limits over time did, with one tenant."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(trainer_svc.registry.migrations.__file__).parent))
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as transaction:
        config.attributes["connection"] = transaction
        alembic.command.upgrade(config, "0007")
        transaction.execute(text("INSERT INTO tenants VALUES ('aurora', 'Aurora Bikes', 7, 1)"))
    engine.dispose()


async def test_tenants_of_0007_are_kept_without_new_limits(tmp_path: Path) -> None:
    """What they were limited to stays; they can be limited further, and used tokens are counted from now on."""
    write_database_of_0007(tmp_path / "registry.db")
    usage = {UsageKey(VersionName("aurora", "faq", 1), "2026-01-31"): UsageCounts(num_requests=1)}
    with Database(f"sqlite:///{tmp_path / 'registry.db'}") as database:
        tenants = Tenants(database, read_utc)
        before = await tenants.get(TenantName("aurora"))
        await UsageLedger(database, read_utc).append(UsageReport("server", 1, usage))
        after = await tenants.change(TenantChange(before.name, limits={"tokens_per_day": 2**40}))

    assert (before.display_name, before.limits) == ("Aurora Bikes", TenantLimits(max_requests_in_flight=7))
    assert after.limits == TenantLimits(max_requests_in_flight=7, tokens_per_day=2**40)


async def test_engine_ids_never_come_twice_however_the_table_was_changed(trained: Trainer) -> None:
    """The table of versions is copied to be changed: it still counts up by itself, and still knows bots and jobs."""
    await trained.stop()
    state = trained.folder / "state"
    go_back_to_0001(state)
    before = read_schema(state, "versions")
    await trained.start()
    await trained.stop()
    after = read_schema(state, "versions")

    assert ("training_job TEXT NOT NULL" in before, "training_job TEXT NOT NULL" in after) == (True, False)
    for kept in ("AUTOINCREMENT", "UNIQUE (training_job)", "UNIQUE (tenant, bot, number)"):
        assert (kept in before, kept in after) == (True, True), after
    assert after.count("FOREIGN KEY") == before.count("FOREIGN KEY") == 2
    await trained.start()
    assert (await trained.train("aurora", seed=3)).engine_id == 3
