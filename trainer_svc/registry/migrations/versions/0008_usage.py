"""What tenants may use over time, and what they used."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COUNTS = ("num_requests", "num_cancelled", "num_failed", "num_refused", "num_prompt_tokens", "num_output_tokens")


def upgrade() -> None:
    """Add limits, which tenants that are there have none of, and an empty ledger."""
    for name in ("weight", "requests_per_minute", "max_prompt_tokens", "max_output_tokens"):
        op.add_column("tenants", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    for name in ("tokens_per_minute", "tokens_per_day"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "usage_reports",
        sa.Column("server", sa.Text(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "usage_entries",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("bot", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.ForeignKeyConstraint(["server", "sequence"], ["usage_reports.server", "usage_reports.sequence"]),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "usage_days",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("day", sa.Text(), primary_key=True),
        sa.Column("bot", sa.Text(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
    )
