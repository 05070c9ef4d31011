"""The tables of the registry, as the newest migration leaves them. What they mean is told by the module that owns each."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# SQLite counts up by itself only in a column that is INTEGER to the letter.
_Counter = BigInteger().with_variant(Integer, "sqlite")


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept as whole microseconds since 1970: SQLite has no time zones and would drop them silently."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn an aware moment into microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn microseconds into an aware moment."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = MetaData()

tenants = Table(
    "tenants",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("max_requests_in_flight", Integer, nullable=False),
    # Defaults of the database: tenants of earlier schemas have none of these limits.
    Column("weight", Integer, server_default=text("0"), nullable=False),
    Column("requests_per_minute", Integer, server_default=text("0"), nullable=False),
    Column("tokens_per_minute", BigInteger, server_default=text("0"), nullable=False),
    Column("tokens_per_day", BigInteger, server_default=text("0"), nullable=False),
    Column("max_prompt_tokens", Integer, server_default=text("0"), nullable=False),
    Column("max_output_tokens", Integer, server_default=text("0"), nullable=False),
    Column("create_time", UtcTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("seq", _Counter, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.tenant"), nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("revoke_time", UtcTime),
    sqlite_autoincrement=True,
)

datasets = Table(
    "datasets",
    metadata,
    Column("seq", _Counter, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.tenant"), nullable=False),
    Column("dataset", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("report", JSON, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

bots = Table(
    "bots",
    metadata,
    Column("tenant", Text, ForeignKey("tenants.tenant"), primary_key=True),
    Column("bot", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("system_prompt", Text, nullable=False),
    Column("max_output_tokens", Integer, nullable=False),
    Column("temperature", Float, nullable=False),
    Column("top_p", Float, nullable=False),
    Column("max_loss_ratio", Float, nullable=False),
    # Defaults of the database, as in the other tables: rows of earlier schemas have none of these.
    Column("gate", JSON, server_default=text("'{}'"), nullable=False),
    Column("refusal_text", Text, server_default=text("''"), nullable=False),
    Column("unanswerable", JSON, server_default=text("'[]'"), nullable=False),
    Column("style_rules", JSON, server_default=text("'{}'"), nullable=False),
    Column("answer_schema", Text, server_default=text("''"), nullable=False),
    # Numbers of versions; 0 is none, since version 0 is never routed.
    Column("production", Integer, nullable=False),
    Column("previous", Integer, nullable=False),
    Column("canary", Integer, server_default=text("0"), nullable=False),
    Column("canary_percent", Integer, server_default=text("0"), nullable=False),
    Column("canary_end", JSON),
    Column("shadow", Integer, server_default=text("0"), nullable=False),
    Column("shadow_percent", Integer, server_default=text("0"), nullable=False),
    Column("routes_revision", Integer, nullable=False),
    Column("create_time", UtcTime, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    # The number the engine knows the version by: counts up over all tenants, never used again.
    Column("engine_id", _Counter, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("bot", Text, nullable=False),
    Column("number", Integer, nullable=False),
    # Unique: a job makes or judges one version at most, whatever else goes wrong. Imported versions that no job judges have none.
    Column("training_job", Text, ForeignKey("training_jobs.job"), unique=True),
    Column("state", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("files", JSON, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("system_prompt", Text, nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("evaluation", JSON, nullable=False),
    Column("rejection", Text, nullable=False),
    Column("gate_override", JSON),
    Column("create_time", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "bot"], ["bots.tenant", "bots.bot"]),
    UniqueConstraint("tenant", "bot", "number"),
    sqlite_autoincrement=True,
)

training_jobs = Table(
    "training_jobs",
    metadata,
    Column("seq", _Counter, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.tenant"), nullable=False),
    Column("job", Text, nullable=False, unique=True),
    Column("bot", Text, nullable=False),
    Column("dataset", Text, ForeignKey("datasets.dataset"), nullable=False),
    Column("settings", JSON, nullable=False),
    # As it was asked for, 0 for all there is; the plan has the limit that counts.
    Column("memory_limit_bytes", BigInteger, nullable=False),
    Column("plan", JSON, nullable=False),
    # Of a job that trains nothing but judges a version: its files' names and digests.
    Column("judged_files", JSON(none_as_null=True)),
    Column("state", Text, nullable=False, index=True),
    # Rises with every claim; what an earlier attempt still writes is refused.
    Column("attempt", Integer, nullable=False),
    Column("num_lost", Integer, nullable=False),
    Column("progress", JSON),
    Column("version", Integer, nullable=False),
    # A google.rpc.Status, serialised: kept exactly as callers get it.
    Column("error", LargeBinary, nullable=False),
    Column("measured_peak_bytes", BigInteger, nullable=False),
    # Defaults of the database: rows of the first schema have neither.
    Column("measured_phase_bytes", JSON, server_default=text("'{}'"), nullable=False),
    Column("num_climbs", Integer, server_default=text("0"), nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
    ForeignKeyConstraint(["tenant", "bot"], ["bots.tenant", "bots.bot"]),
    sqlite_autoincrement=True,
)

job_events = Table(
    "job_events",
    metadata,
    Column("job", Text, ForeignKey("training_jobs.job"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("time", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
)

memory_residuals = Table(
    "memory_residuals",
    metadata,
    Column("seq", _Counter, primary_key=True),
    # What the job was planned for, and what its worker said it ran on.
    Column("device_kind", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("residual_bytes", BigInteger, nullable=False),
    Column("job", Text, ForeignKey("training_jobs.job"), nullable=False, unique=True),
    Column("create_time", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("generation", _Counter, primary_key=True),
    Column("name", Text, nullable=False),
    sqlite_autoincrement=True,
)

requests = Table(
    "requests",
    metadata,
    Column("tenant", Text, ForeignKey("tenants.tenant"), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("create_time", UtcTime, nullable=False),
)

# Reports of servers that were counted: the number of each is taken once.
usage_reports = Table(
    "usage_reports",
    metadata,
    Column("server", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("create_time", UtcTime, nullable=False),
)


def _make_usage_counts() -> list[Column[int]]:
    return [
        Column(name, BigInteger, nullable=False)
        for name in (
            "num_requests",
            "num_cancelled",
            "num_failed",
            "num_refused",
            "num_prompt_tokens",
            "num_output_tokens",
        )
    ]


# The ledger: rows are added and never changed. They name what servers said, so nothing refers to tenants or bots.
usage_entries = Table(
    "usage_entries",
    metadata,
    Column("seq", _Counter, primary_key=True),
    Column("server", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("bot", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("day", Text, nullable=False),
    *_make_usage_counts(),
    ForeignKeyConstraint(["server", "sequence"], ["usage_reports.server", "usage_reports.sequence"]),
    sqlite_autoincrement=True,
)

# The sums of the ledger, kept in the same transactions: a budget is asked for every few seconds.
usage_days = Table(
    "usage_days",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("bot", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    *_make_usage_counts(),
)
