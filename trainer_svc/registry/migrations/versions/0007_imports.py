"""Versions that were trained elsewhere, which no job has made, and jobs that only judge one."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a version be without a job; jobs that are there have all trained."""
    # SQLite changes a column by copying its table; AUTOINCREMENT must be said again, for engine ids are never to come twice.
    with op.batch_alter_table("versions", table_kwargs={"sqlite_autoincrement": True}) as versions:
        versions.alter_column("training_job", existing_type=sa.Text(), nullable=True)
    op.add_column("training_jobs", sa.Column("judged_files", sa.JSON(), nullable=True))
