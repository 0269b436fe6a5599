"""Mark threads that were deleted while some of their replies and annotations are still stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the mark, and the index that finds it."""
    op.add_column("threads", sa.Column("deleted_seq", sa.BigInteger))
    marked = sa.text("deleted_seq IS NOT NULL")
    # Only of marked threads: an index with the others would tempt SQLite to read a group's threads by it.
    op.create_index("threads_to_purge", "threads", ["deleted_seq"], postgresql_where=marked, sqlite_where=marked)
