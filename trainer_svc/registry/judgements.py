"""What a job found an imported version to be: scored as a trained one is, and kept with the version that was registered before."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, select, update

from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.registry import tables
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.versions import Version, VersionState, dump_evaluation, to_version


@dataclass(frozen=True, slots=True)
class JudgingTrace:
    """Where and how it was judged; the names are those of a `Lineage`."""

    code_versions: Mapping[str, str]
    device: str
    memory_limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    phase_peak_bytes: Mapping[str, int]
    predicted_phase_bytes: Mapping[str, int]
    num_climbs: int
    final_techniques: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What it scored, and why the gate rejects it; an empty text where it does not."""

    evaluation: Evaluation
    rejection: str
    trace: JudgingTrace


def judge_version(transaction: Connection, job: str, judgement: Judgement) -> Version:
    """Keep what a job has found of the version that it judges, within a transaction; servers hear of one that is READY.

    One that was let through for a reason, or retired, while the job ran keeps its state. Raises LookupError where a job judges none.
    """
    table = tables.versions
    row = transaction.execute(select(table).where(table.c.training_job == job)).one_or_none()
    if row is None:
        raise LookupError(job)
    version = to_version(row)
    state = version.state
    if state is VersionState.UNJUDGED:
        state = VersionState.REJECTED if judgement.rejection else VersionState.READY
    draft = replace(
        version.draft,
        state=state,
        lineage=replace(version.draft.lineage, **asdict(judgement.trace)),
        evaluation=judgement.evaluation,
        rejection=judgement.rejection,
    )
    values = {
        "state": state,
        "lineage": asdict(draft.lineage),
        "evaluation": dump_evaluation(draft.evaluation),
        "rejection": draft.rejection,
    }
    transaction.execute(update(table).where(table.c.engine_id == version.engine_id).values(values))
    if state is VersionState.READY:
        record_change(transaction, str(version.name))
    return replace(version, draft=draft)
