"""Make room for what was deleted while the log still holds its text."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table of version 15."""
    op.create_table(
        "deleted_content",
        sa.Column("target_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_index("deleted_content_by_seq", "deleted_content", ["group", "seq"], unique=True)
