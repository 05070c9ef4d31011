"""The JSON schema that every answer of a bot conforms to."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; the bots that are there answer freely."""
    op.add_column("bots", sa.Column("answer_schema", sa.Text(), server_default=sa.text("''"), nullable=False))
