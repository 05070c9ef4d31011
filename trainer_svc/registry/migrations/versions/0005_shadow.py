"""A version that is asked beside production, and whose answers are compared only."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; bots that are there have none."""
    op.add_column("bots", sa.Column("shadow", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("bots", sa.Column("shadow_percent", sa.Integer(), server_default=sa.text("0"), nullable=False))
