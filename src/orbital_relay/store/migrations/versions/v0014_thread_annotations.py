"""Make room for annotations of threads, replies and media."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table of version 14."""
    op.create_table(
        "thread_annotations",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("annotation_id", sa.Text, nullable=False, unique=True),
        sa.Column("thread", RowId, sa.ForeignKey("threads.id"), nullable=False),
        sa.Column("target_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("author", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("author_username", sa.Text, nullable=False),
        sa.Column("encrypted_body", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("thread_annotations_by_seq", "thread_annotations", ["thread", "seq"], unique=True)
