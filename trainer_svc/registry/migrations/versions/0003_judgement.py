"""What a bot's versions must reach and refuse, and who let a rejected version answer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; bots that are there get every default, no refusal and no rules, and no version was overridden."""
    op.add_column("bots", sa.Column("gate", sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("bots", sa.Column("refusal_text", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("bots", sa.Column("unanswerable", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
    op.add_column("bots", sa.Column("style_rules", sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("versions", sa.Column("gate_override", sa.JSON(), nullable=True))
