"""Versions of bots: registered whole by a job's last transaction, read, and retired. Their bytes are in the artifact store."""

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, func, insert, select, update

from adaptory.core.auth import not_found
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, VersionName
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.registry import tables
from trainer_svc.registry.bots import read_bot
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.pages import Page, PageRequest


class VersionState(enum.StrEnum):
    """Whether a version may answer."""

    READY = "READY"
    REJECTED = "REJECTED"
    RETIRED = "RETIRED"
    UNJUDGED = "UNJUDGED"

    @property
    def may_be_overridden(self) -> bool:
        """Whether a version may be promoted for a reason that is recorded."""
        return self in (VersionState.REJECTED, VersionState.UNJUDGED)


@dataclass(frozen=True, slots=True)
class ImportedAdapter:
    """An adapter as it came from elsewhere, and what was changed for servers to load it, a sentence each."""

    dataset: str
    dataset_digest: str
    origin: str
    named_base: str
    original_config: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from; names are resource names, digests lower-case hex SHA-256.

    What has a default was not recorded at first: versions of earlier releases lack it.
    """

    training_job: str
    dataset: str
    dataset_digest: str
    base_model: str
    base_digest: str
    parity_digest: str
    template_digest: str
    code_versions: Mapping[str, str]
    settings: Mapping[str, str]
    device: str
    memory_limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    phase_peak_bytes: Mapping[str, int]
    predicted_phase_bytes: Mapping[str, int] = field(default_factory=dict)
    num_climbs: int = 0
    final_techniques: str = ""
    refusal_text: str = ""
    num_refusal_rows: int = 0
    receipt: tuple[str, ...] = ()
    best_step: int = 0
    num_steps: int = 0
    imported: ImportedAdapter | None = None


@dataclass(frozen=True, slots=True)
class GateOverride:
    """Who let a version answer that the gate rejected, and why; `caller` is `tenants/{tenant}` or the role of another key."""

    reason: str
    caller: str
    time: datetime


@dataclass(frozen=True, slots=True)
class VersionDraft:
    """What a new version is; the registry gives it its numbers. `files` maps file names to digests in the artifact store.

    `job` is empty, and `evaluation` None, of one that was imported and is not judged.
    """

    bot: BotName
    job: str
    state: VersionState
    digest: str
    files: Mapping[str, str]
    rank: int
    size_bytes: int
    system_prompt: str
    lineage: Lineage
    evaluation: Evaluation | None
    rejection: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it is now."""

    name: VersionName
    engine_id: int
    draft: VersionDraft
    create_time: datetime
    override: GateOverride | None = None

    @property
    def state(self) -> VersionState:
        """Whether it may answer."""
        return self.draft.state

    @property
    def weights_fault(self) -> str:
        """Why its values must never be served; empty where they may."""
        return self.draft.evaluation.weights_fault if self.draft.evaluation else ""


# Built once: each holds a compiled validator.
_EVALUATION, _OVERRIDE = TypeAdapter(Evaluation | None), TypeAdapter(GateOverride)
_LINEAGE: TypeAdapter[Lineage] = TypeAdapter(Lineage)


class Versions:
    """Reads and retires versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: VersionName) -> Version:
        """Return a version. Raises NotFound, and InvalidRequest for version 0."""
        return await self._database.read(lambda transaction: read_version(transaction, name))

    async def list(self, bot: BotName, page: PageRequest) -> Page[Version]:
        """Return a page of a bot's versions, newest first. Raises NotFound when there is no such bot."""
        table = tables.versions
        query = select(table).where(table.c.tenant == bot.tenant, table.c.bot == bot.bot)
        if (before := page.after_number()) is not None:
            query = query.where(table.c.number < before)
        query = query.order_by(table.c.number.desc()).limit(page.size + 1)

        def read_versions(transaction: Connection) -> list[Version]:
            read_bot(transaction, bot)
            return [to_version(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_versions), key=lambda version: version.name.number)


def register_version(transaction: Connection, draft: VersionDraft, *, now: datetime) -> Version:
    """Give a draft its numbers and keep it, within the transaction that ends its job; servers hear of one that is READY."""
    table = tables.versions
    newest = select(func.max(table.c.number)).where(table.c.tenant == draft.bot.tenant, table.c.bot == draft.bot.bot)
    number = (transaction.execute(newest).scalar_one() or 0) + 1
    columns = {
        "tenant": draft.bot.tenant,
        "bot": draft.bot.bot,
        "number": number,
        "training_job": draft.job or None,
        "state": draft.state,
        "digest": draft.digest,
        "files": dict(draft.files),
        "rank": draft.rank,
        "size_bytes": draft.size_bytes,
        "system_prompt": draft.system_prompt,
        "lineage": asdict(draft.lineage),
        "evaluation": dump_evaluation(draft.evaluation),
        "rejection": draft.rejection,
        "create_time": now,
    }
    engine_id = transaction.execute(insert(table).values(columns).returning(table.c.engine_id)).scalar_one()
    version = Version(VersionName(draft.bot.tenant, draft.bot.bot, number), engine_id, draft, now)
    if draft.state is VersionState.READY:
        record_change(transaction, str(version.name))
    return version


def read_version(transaction: Connection, name: VersionName) -> Version:
    """Return a version within a transaction. Raises NotFound, and InvalidRequest for version 0."""
    if name.number == 0:
        sentence = "versions/0 is the base without an adapter: it can be asked, but there is nothing to show or change"
        raise InvalidRequest.of_field("name", sentence)
    table = tables.versions
    query = select(table).where(table.c.tenant == name.tenant, table.c.bot == name.bot, table.c.number == name.number)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise not_found(str(name))
    return to_version(row)


def to_version(row: Row[Any]) -> Version:
    """Turn a row of the table into what it says."""
    draft = VersionDraft(
        bot=BotName(row.tenant, row.bot),
        job=row.training_job or "",
        state=VersionState(row.state),
        digest=row.digest,
        files=row.files,
        rank=row.rank,
        size_bytes=row.size_bytes,
        system_prompt=row.system_prompt,
        lineage=_LINEAGE.validate_python(row.lineage),
        evaluation=_EVALUATION.validate_python(row.evaluation),
        rejection=row.rejection,
    )
    override = None if row.gate_override is None else _OVERRIDE.validate_python(row.gate_override)
    return Version(VersionName(row.tenant, row.bot, row.number), row.engine_id, draft, row.create_time, override)


def dump_evaluation(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Return what the table keeps of an evaluation."""
    return None if evaluation is None else asdict(evaluation)


def override_gate(transaction: Connection, version: Version, override: GateOverride) -> Version:
    """Make a version READY that is REJECTED or UNJUDGED, keep who did it and why, and tell servers, within a transaction."""
    table = tables.versions
    kept = _OVERRIDE.dump_python(override, mode="json")
    values = {"state": VersionState.READY, "gate_override": kept}
    transaction.execute(update(table).where(table.c.engine_id == version.engine_id).values(values))
    record_change(transaction, str(version.name))
    return replace(version, draft=replace(version.draft, state=VersionState.READY), override=override)


def mark_retired(transaction: Connection, version: Version) -> Version:
    """Take a version that no route names out of use, and tell servers, within a transaction; one retired before stays as it is."""
    if version.state is VersionState.RETIRED:
        return version
    table = tables.versions
    transaction.execute(update(table).where(table.c.engine_id == version.engine_id).values(state=VersionState.RETIRED))
    record_change(transaction, str(version.name))
    return replace(version, draft=replace(version.draft, state=VersionState.RETIRED))
