"""What jobs measured in each phase, how often they climbed, and how far off predictions were."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them; of jobs that are there nothing was measured by phase, and no climb was counted."""
    op.add_column(
        "training_jobs", sa.Column("measured_phase_bytes", sa.JSON(), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("training_jobs", sa.Column("num_climbs", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "memory_residuals",
        sa.Column("seq", _COUNTER, nullable=False),
        sa.Column("device_kind", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("residual_bytes", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"],
            ["training_jobs.job"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("job"),
        sqlite_autoincrement=True,
    )
