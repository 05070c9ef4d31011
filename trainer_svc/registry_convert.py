"""The registry's values as messages of the contract: `registry_requests.py` reads what comes in, this writes what goes out."""

from dataclasses import asdict
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from adaptory.registry.v1 import bot_pb2, dataset_pb2, serving_pb2, tenant_pb2, version_pb2
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.report import DatasetReport
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.registry.bots import Bot, CanaryEnd, GenerationDefaults, Routes
from trainer_svc.registry.datasets import Dataset
from trainer_svc.registry.feed import FeedUpdate, ServedTenant
from trainer_svc.registry.keys import ApiKey
from trainer_svc.registry.tenants import Tenant, TenantLimits
from trainer_svc.registry.versions import GateOverride, Lineage, Version, VersionDraft


def write_time(moment: datetime | None) -> Timestamp | None:
    """Return a moment as a message, None where there is none: an absent field."""
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def write_tenant(tenant: Tenant) -> tenant_pb2.Tenant:
    """Return a tenant as a message."""
    return tenant_pb2.Tenant(
        name=str(tenant.name),
        display_name=tenant.display_name,
        limits=_write_limits(tenant.limits),
        create_time=write_time(tenant.create_time),
    )


def write_api_key(key: ApiKey) -> tenant_pb2.ApiKey:
    """Return a key as a message, with its secret if it was just issued."""
    return tenant_pb2.ApiKey(
        name=str(key.name),
        display_name=key.display_name,
        secret=key.secret,
        create_time=write_time(key.create_time),
        revoke_time=write_time(key.revoke_time),
    )


def write_dataset(dataset: Dataset) -> dataset_pb2.Dataset:
    """Return a dataset as a message."""
    return dataset_pb2.Dataset(
        name=str(dataset.name),
        kind=_write_kind(dataset.draft.kind),
        format=f"DATASET_FORMAT_{dataset.draft.format}",
        display_name=dataset.draft.display_name,
        state=f"STATE_{dataset.state}",
        size_bytes=dataset.size_bytes,
        digest=dataset.digest,
        report=_write_report(dataset.report),
        create_time=write_time(dataset.create_time),
    )


def write_bot(bot: Bot) -> bot_pb2.Bot:
    """Return a bot as a message."""
    return bot_pb2.Bot(
        name=str(bot.name),
        kind=_write_kind(bot.draft.kind),
        base_model=bot.draft.base_model,
        display_name=bot.draft.display_name,
        system_prompt=bot.draft.system_prompt,
        generation_defaults=_write_defaults(bot.draft.generation),
        quality_gate=bot_pb2.QualityGate(**asdict(bot.draft.gate)),
        routes=_write_routes(bot.routes),
        create_time=write_time(bot.create_time),
        refusal_text=bot.draft.refusal.text,
        unanswerable_questions=bot.draft.refusal.unanswerable,
        style_rules=bot_pb2.StyleRules(**asdict(bot.draft.style)),
        answer_schema=bot.draft.answer_schema,
    )


def write_version(version: Version) -> version_pb2.Version:
    """Return a version as a message."""
    message = write_version_draft(version.draft)
    numbers = version_pb2.Version(
        name=str(version.name),
        engine_id=version.engine_id,
        create_time=write_time(version.create_time),
        gate_override=_write_override(version.override),
    )
    message.MergeFrom(numbers)
    return message


def write_version_draft(draft: VersionDraft) -> version_pb2.Version:
    """Return a version that was checked but not registered, as a message without a name."""
    return version_pb2.Version(
        state=f"STATE_{draft.state}",
        digest=draft.digest,
        rank=draft.rank,
        size_bytes=draft.size_bytes,
        lineage=_write_lineage(draft.lineage),
        evaluation=_write_evaluation(draft.evaluation),
        rejection=draft.rejection,
        system_prompt=draft.system_prompt,
    )


def write_update(update: FeedUpdate) -> serving_pb2.ServingUpdate:
    """Return one message of the feed."""
    state = serving_pb2.ServingState(
        tenants=[_write_served_tenant(served) for served in update.tenants],
        bots=[_write_served_bot(bot) for bot in update.bots],
        versions=[_write_served_version(version) for version in update.versions],
    )
    if update.is_snapshot:
        return serving_pb2.ServingUpdate(generation=update.generation, snapshot=state)
    delta = serving_pb2.ServingDelta(changed=state, removed=update.removed)
    return serving_pb2.ServingUpdate(generation=update.generation, delta=delta)


def _write_limits(limits: TenantLimits) -> tenant_pb2.TenantLimits:
    return tenant_pb2.TenantLimits(**asdict(limits))


def _write_kind(kind: BotKind) -> str:
    return f"BOT_KIND_{kind}"


def _write_report(report: DatasetReport) -> dataset_pb2.DatasetReport:
    problems = [
        dataset_pb2.DatasetProblem(
            line=problem.line,
            reason=problem.reason,
            description=problem.description,
            severity=f"SEVERITY_{problem.severity}",
        )
        for problem in report.problems
    ]
    return dataset_pb2.DatasetReport(
        num_entries=report.num_entries,
        num_rows=report.num_rows,
        problems=problems,
        num_problems=report.num_problems,
        base_model=report.lengths.base_model,
        num_tokens=report.lengths.num_tokens,
        longest_row_tokens=report.lengths.longest_row_tokens,
        row_lengths=[
            dataset_pb2.LengthBucket(max_tokens=bucket.max_tokens, num_rows=bucket.num_rows)
            for bucket in report.lengths.buckets
        ],
        num_by_reason=report.num_by_reason,
        num_tests=report.num_tests,
    )


def _write_defaults(defaults: GenerationDefaults) -> bot_pb2.GenerationDefaults:
    return bot_pb2.GenerationDefaults(
        max_output_tokens=defaults.max_output_tokens, temperature=defaults.temperature, top_p=defaults.top_p
    )


def _write_routes(routes: Routes) -> bot_pb2.Routes:
    return bot_pb2.Routes(
        production=str(routes.production or ""),
        previous=str(routes.previous or ""),
        canary=str(routes.canary or ""),
        canary_percent=routes.canary_percent,
        canary_end=_write_canary_end(routes.canary_end),
        shadow=str(routes.shadow or ""),
        shadow_percent=routes.shadow_percent,
        etag=routes.etag,
    )


def _write_canary_end(end: CanaryEnd | None) -> bot_pb2.CanaryEnd | None:
    return None if end is None else bot_pb2.CanaryEnd(version=end.version, reason=end.reason, time=write_time(end.time))


def _write_lineage(lineage: Lineage) -> version_pb2.Lineage:
    return version_pb2.Lineage(
        training_job=lineage.training_job,
        dataset=lineage.dataset,
        dataset_digest=lineage.dataset_digest,
        base_model=lineage.base_model,
        base_digest=lineage.base_digest,
        parity_digest=lineage.parity_digest,
        code_versions=lineage.code_versions,
        settings=lineage.settings,
        device=lineage.device,
        memory_limit_bytes=lineage.memory_limit_bytes,
        predicted_peak_bytes=lineage.predicted_peak_bytes,
        measured_peak_bytes=lineage.measured_peak_bytes,
        phase_peak_bytes=lineage.phase_peak_bytes,
        predicted_phase_bytes=lineage.predicted_phase_bytes,
        num_climbs=lineage.num_climbs,
        final_techniques=lineage.final_techniques,
        template_digest=lineage.template_digest,
        receipt=lineage.receipt,
        refusal_text=lineage.refusal_text,
        num_refusal_rows=lineage.num_refusal_rows,
        best_step=lineage.best_step,
        num_steps=lineage.num_steps,
        imported=None if lineage.imported is None else version_pb2.ImportedAdapter(**asdict(lineage.imported)),
    )


def _write_evaluation(evaluation: Evaluation | None) -> version_pb2.Evaluation | None:
    if evaluation is None:
        return None
    return version_pb2.Evaluation(
        base_loss=evaluation.base_loss,
        adapter_loss=evaluation.adapter_loss,
        num_held_out_rows=evaluation.num_held_out_rows,
        num_train_rows=evaluation.num_train_rows,
        train_tokens_per_second=evaluation.train_tokens_per_second,
        train_seconds=evaluation.train_seconds,
        base_general_loss=evaluation.base_general_loss,
        adapter_general_loss=evaluation.adapter_general_loss,
        scores=[version_pb2.Score(**asdict(score)) for score in evaluation.scores],
        samples=[version_pb2.SampleAnswer(**asdict(sample)) for sample in evaluation.samples],
        notes=evaluation.notes,
        certainty=[version_pb2.CertaintyFloor(**asdict(floor)) for floor in evaluation.certainty],
    )


def _write_override(override: GateOverride | None) -> version_pb2.GateOverride | None:
    if override is None:
        return None
    return version_pb2.GateOverride(reason=override.reason, caller=override.caller, time=write_time(override.time))


def _write_served_tenant(served: ServedTenant) -> serving_pb2.ServingTenant:
    return serving_pb2.ServingTenant(
        name=str(served.tenant.name), key_digests=served.key_digests, limits=_write_limits(served.tenant.limits)
    )


def _write_served_bot(bot: Bot) -> serving_pb2.ServingBot:
    return serving_pb2.ServingBot(
        name=str(bot.name),
        kind=_write_kind(bot.draft.kind),
        base_model=bot.draft.base_model,
        system_prompt=bot.draft.system_prompt,
        generation_defaults=_write_defaults(bot.draft.generation),
        routes=_write_routes(bot.routes),
        answer_schema=bot.draft.answer_schema,
    )


def _write_served_version(version: Version) -> serving_pb2.ServingVersion:
    return serving_pb2.ServingVersion(
        name=str(version.name),
        digest=version.draft.digest,
        engine_id=version.engine_id,
        rank=version.draft.rank,
        size_bytes=version.draft.size_bytes,
        parity_digest=version.draft.lineage.parity_digest,
        system_prompt=version.draft.system_prompt,
        template_digest=version.draft.lineage.template_digest,
        receipt=version.draft.lineage.receipt,
    )
