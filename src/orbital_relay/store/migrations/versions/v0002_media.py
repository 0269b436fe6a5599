"""Make room for media: what they are, their chunks, who has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of version 2."""
    op.create_table(
        "media",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("media_id", sa.Text, nullable=False, unique=True),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), nullable=False),
        sa.Column("thread", RowId, sa.ForeignKey("threads.id"), nullable=False),
        sa.Column("uploader", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False, unique=True),
        sa.Column("total_chunks", sa.Integer, nullable=False),
        sa.Column("chunk_bytes", sa.BigInteger, nullable=False),
        sa.Column("declared_bytes", sa.BigInteger),
        sa.Column("reserved_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_chunks", sa.Integer, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("encrypted_metadata", sa.Text, nullable=False),
        sa.Column("encryption_iv", sa.Text, nullable=False),
        sa.Column("touched_ms", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger),
        sa.Column("uploaded_ms", sa.BigInteger),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("has_bytes", sa.Integer, nullable=False),
    )
    op.create_index("media_by_group", "media", ["group", "state"])
    op.create_index("media_by_thread", "media", ["thread", "state"])
    op.create_index("media_by_end", "media", ["state", "expires_ms"])
    op.create_index("media_with_bytes", "media", ["has_bytes", "state"])
    op.create_table(
        "media_chunks",
        sa.Column("media", RowId, sa.ForeignKey("media.id"), primary_key=True),
        sa.Column("index", sa.Integer, primary_key=True),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "media_downloads",
        sa.Column("media", RowId, sa.ForeignKey("media.id"), primary_key=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
