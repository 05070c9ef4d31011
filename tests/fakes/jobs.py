"""Jobs and versions as values, good by default, and a database that holds what they refer to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from adaptory.core.names import BotName, DatasetName, TenantName
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.clock import read_utc
from trainer_svc.jobs.job import JobDraft, JobPlan, JobSettings
from trainer_svc.jobs.workspace import Rung, TrainingSettings
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import QualityGate
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Techniques
from trainer_svc.registry.bots import BotDraft, Bots, GenerationDefaults
from trainer_svc.registry.database import Database
from trainer_svc.registry.datasets import DatasetDraft, Datasets
from trainer_svc.registry.requests import RequestKey
from trainer_svc.registry.tenants import TenantLimits, Tenants
from trainer_svc.registry.versions import Lineage, VersionDraft, VersionState

BOT = BotName("aurora", "faq")


def request_key(request_id: str = "", digest: str = "") -> RequestKey:
    """Return the key of a request of aurora's."""
    return RequestKey(BOT.tenant, request_id, digest)


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[tuple[Database, JobDraft]]:
    """Open a database with aurora, its bot and a dataset, and what a job of them is."""
    with Database(f"sqlite:///{folder / 'registry.db'}") as database:
        await Tenants(database, read_utc).create(TenantName("aurora"), display_name="", limits=TenantLimits())
        await Bots(database, read_utc).create(bot_draft())
        draft = DatasetDraft(BotKind.FAQ, DatasetFormat.FAQ_JSONL, "")
        dataset = await Datasets(database, read_utc).create(draft, request_key())
        yield database, job_draft(dataset.name)


def bot_draft() -> BotDraft:
    """Return aurora's bot."""
    return BotDraft(BOT, BotKind.FAQ, "tiny", "", "Answer.", GenerationDefaults(0, 0.0, 0.0), QualityGate(0.0))


def job_draft(dataset: DatasetName) -> JobDraft:
    """Return a job that was planned."""
    plan = JobPlan(
        limit_bytes=1 << 30,
        predicted_peak_bytes=1 << 29,
        smallest_limit_bytes=1 << 28,
        terms={"base": 1 << 28},
        phases={"step": 1 << 29},
        accumulation=1,
        rungs=(Rung(Techniques(BasePrecision.NF4, micro_batch_rows=8), {"step": 1 << 29}),),
        device=DeviceKind.CPU,
    )
    return JobDraft(BOT, dataset, JobSettings(TrainingSettings(), 0.05), 0, plan)


def version_draft(job: str) -> VersionDraft:
    """Return a READY version that a job made."""
    lineage = Lineage("", "", "", "tiny", "", "", "", {}, {}, "cpu", 0, 0, 0, {})
    return VersionDraft(
        bot=BOT,
        job=job,
        state=VersionState.READY,
        digest="d" * 64,
        files={},
        rank=16,
        size_bytes=1,
        system_prompt="Answer.",
        lineage=lineage,
        evaluation=Evaluation(2.0, 1.0, 1, 9, 1.0, 1.0),
        rejection="",
    )
