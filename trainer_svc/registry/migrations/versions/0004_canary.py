"""A second version that answers a share of a bot's conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; bots that are there have none."""
    op.add_column("bots", sa.Column("canary", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("bots", sa.Column("canary_percent", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("bots", sa.Column("canary_end", sa.JSON(), nullable=True))
