"""Keep the id by which an erased account signed its records."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

SEQ_BITS = 40


def upgrade() -> None:
    """Add the column of version 13, and fill it for accounts that were erased, where the log has the event."""
    op.add_column("records", sa.Column("author_id", sa.Text))
    conn = op.get_bind()
    records = sa.table("records", *map(sa.column, ("id", "group", "seq", "author", "author_id")))
    users = sa.table("users", sa.column("id"), sa.column("erased_ms"))
    events = sa.table("events", sa.column("place"), sa.column("frame", sa.LargeBinary))
    erased = (
        sa.select(records.c.id, events.c.frame)
        .join(users, users.c.id == records.c.author)
        .join(events, events.c.place == records.c.group * (1 << SEQ_BITS) + records.c.seq)
        .where(users.c.erased_ms.is_not(None))
    )
    for row in conn.execute(erased).all():
        author_id = json.loads(row.frame)["data"]["author_id"]
        conn.execute(sa.update(records).where(records.c.id == row.id).values(author_id=author_id))
