"""Turns the registry's messages into the routing table's values, and a table back into a message for the snapshot on disk."""

from dataclasses import asdict, fields

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, TenantName, VersionName
from adaptory.core.usage import dump_usage
from adaptory.registry.v1 import bot_pb2, serving_pb2, tenant_pb2, usage_service_pb2
from serve_svc.routing import BotKind, Delta, GenerationDefaults, RoutedBot, RoutedTenant, RoutedVersion, RoutingTable
from serve_svc.usage.day_tokens import DayTotals
from serve_svc.usage.quota import Quota
from serve_svc.usage.spool import UsageReport
from serve_svc.version import AdapterVersion

# What the contract says a zero means.
_DEFAULT_MAX_OUTPUT_TOKENS = 256
_DEFAULT_TOP_P = 1.0
_DEFAULT_MAX_REQUESTS_IN_FLIGHT = 32

# The contract calls them by the same names.
_QUOTA_FIELDS = tuple(field.name for field in fields(Quota))

_KIND_PREFIX = "BOT_KIND_"


def parse_update(update: serving_pb2.ServingUpdate) -> RoutingTable | Delta:
    """Return a whole table for a snapshot, a delta for a change. Raises InvalidRequest for a name or a message out of contract."""
    if update.HasField("snapshot"):
        state = update.snapshot
        return RoutingTable(
            generation=update.generation,
            tenants={tenant.name: _parse_tenant(tenant) for tenant in state.tenants},
            bots={bot.name: _parse_bot(bot) for bot in state.bots},
            versions={version.name: _parse_version(version) for version in state.versions},
        )
    if update.HasField("delta"):
        changed = update.delta.changed
        return Delta(
            generation=update.generation,
            tenants=tuple(_parse_tenant(tenant) for tenant in changed.tenants),
            bots=tuple(_parse_bot(bot) for bot in changed.bots),
            versions=tuple(_parse_version(version) for version in changed.versions),
            removed=frozenset(update.delta.removed),
        )
    raise InvalidRequest.of_field("update", "is neither a snapshot nor a delta")


def dump_table(table: RoutingTable) -> serving_pb2.ServingUpdate:
    """Return the message that `parse_update` turns into an equal table."""
    state = serving_pb2.ServingState(
        tenants=[_dump_tenant(tenant) for tenant in table.tenants.values()],
        bots=[_dump_bot(bot) for bot in table.bots.values()],
        versions=[_dump_version(version) for version in table.versions.values()],
    )
    return serving_pb2.ServingUpdate(generation=table.generation, snapshot=state)


def dump_kind(kind: BotKind) -> str:
    """Return the contract's name of a kind."""
    return _KIND_PREFIX + kind.value


def dump_report(report: UsageReport | None) -> usage_service_pb2.ReportUsageRequest:
    """Return a report as the contract says it; without one, the question for the totals."""
    if report is None:
        return usage_service_pb2.ReportUsageRequest()
    usage = [dump_usage(key, counts) for key, counts in report.usage.items()]
    return usage_service_pb2.ReportUsageRequest(server=report.server, sequence=report.sequence, usage=usage)


def parse_totals(answer: usage_service_pb2.ReportUsageResponse) -> DayTotals:
    """Return what answered a report. Raises InvalidRequest for a name out of contract."""
    tokens = {TenantName.parse(total.tenant, field="totals.tenant").tenant: total.num_tokens for total in answer.totals}
    return DayTotals(answer.day, tokens)


def _parse_tenant(tenant: serving_pb2.ServingTenant) -> RoutedTenant:
    return RoutedTenant(
        name=TenantName.parse(tenant.name, field="tenants.name"),
        key_digests=frozenset(tenant.key_digests),
        max_requests_in_flight=tenant.limits.max_requests_in_flight or _DEFAULT_MAX_REQUESTS_IN_FLIGHT,
        weight=tenant.limits.weight or 1,
        quota=Quota(**{name: getattr(tenant.limits, name) for name in _QUOTA_FIELDS}),
    )


def _parse_bot(bot: serving_pb2.ServingBot) -> RoutedBot:
    defaults = bot.generation_defaults
    return RoutedBot(
        name=BotName.parse(bot.name, field="bots.name"),
        kind=_parse_kind(bot.kind),
        base_model=bot.base_model,
        system_prompt=bot.system_prompt,
        defaults=GenerationDefaults(
            max_output_tokens=defaults.max_output_tokens or _DEFAULT_MAX_OUTPUT_TOKENS,
            temperature=defaults.temperature,
            top_p=defaults.top_p or _DEFAULT_TOP_P,
        ),
        production=_parse_route(bot.routes.production),
        previous=_parse_route(bot.routes.previous),
        canary=_parse_route(bot.routes.canary),
        canary_percent=bot.routes.canary_percent,
        shadow=_parse_route(bot.routes.shadow),
        shadow_percent=bot.routes.shadow_percent,
        answer_schema=bot.answer_schema,
    )


def _parse_kind(kind: int) -> BotKind:
    # A registry of a later release may know kinds that this one does not.
    names = bot_pb2.BotKind.DESCRIPTOR.values_by_number
    return BotKind(names[kind].name.removeprefix(_KIND_PREFIX)) if kind in names else BotKind.UNSPECIFIED


def _parse_route(name: str) -> VersionName | None:
    return VersionName.parse(name, field="bots.routes") if name else None


def _parse_version(version: serving_pb2.ServingVersion) -> RoutedVersion:
    name = VersionName.parse(version.name, field="versions.name")
    adapter = AdapterVersion(
        name=version.name,
        tenant=name.tenant,
        bot=name.bot,
        number=name.number,
        engine_id=version.engine_id,
        digest=version.digest,
        rank=version.rank,
        base_digest=version.parity_digest,
        size_bytes=version.size_bytes,
    )
    return RoutedVersion(name, adapter, version.system_prompt, version.template_digest, tuple(version.receipt))


def _dump_tenant(tenant: RoutedTenant) -> serving_pb2.ServingTenant:
    return serving_pb2.ServingTenant(
        name=str(tenant.name),
        key_digests=sorted(tenant.key_digests),
        limits=tenant_pb2.TenantLimits(
            max_requests_in_flight=tenant.max_requests_in_flight, weight=tenant.weight, **asdict(tenant.quota)
        ),
    )


def _dump_bot(bot: RoutedBot) -> serving_pb2.ServingBot:
    return serving_pb2.ServingBot(
        name=str(bot.name),
        kind=dump_kind(bot.kind),
        base_model=bot.base_model,
        system_prompt=bot.system_prompt,
        generation_defaults=bot_pb2.GenerationDefaults(
            max_output_tokens=bot.defaults.max_output_tokens,
            temperature=bot.defaults.temperature,
            top_p=bot.defaults.top_p,
        ),
        routes=bot_pb2.Routes(
            production=_dump_route(bot.production),
            previous=_dump_route(bot.previous),
            canary=_dump_route(bot.canary),
            canary_percent=bot.canary_percent,
            shadow=_dump_route(bot.shadow),
            shadow_percent=bot.shadow_percent,
        ),
        answer_schema=bot.answer_schema,
    )


def _dump_route(name: VersionName | None) -> str:
    return str(name) if name else ""


def _dump_version(version: RoutedVersion) -> serving_pb2.ServingVersion:
    return serving_pb2.ServingVersion(
        name=str(version.name),
        digest=version.adapter.digest,
        engine_id=version.adapter.engine_id,
        rank=version.adapter.rank,
        size_bytes=version.adapter.size_bytes,
        parity_digest=version.adapter.base_digest,
        system_prompt=version.system_prompt,
        template_digest=version.template_digest,
        receipt=version.receipt,
    )
