"""Keep when each thread was last active, so that a list is ordered by it without reading its replies and media."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add number and time of the last activity, fill them from what is there, and index the order."""
    for name in ("active_seq", "active_ms"):
        op.add_column("threads", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE threads SET active_seq = seq, active_ms = created_ms")
    for table, at in (("replies", "created_ms"), ("media", "uploaded_ms")):
        seq, ms = (
            f"(SELECT one.{column} FROM {table} one WHERE one.thread = threads.id AND one.seq IS NOT NULL "  # noqa: S608
            "ORDER BY one.seq DESC LIMIT 1)"
            for column in ("seq", at)
        )
        op.execute(f"UPDATE threads SET active_seq = {seq}, active_ms = {ms} WHERE active_seq < {seq}")  # noqa: S608
    op.create_index("threads_by_activity", "threads", ["group", "active_seq"])
