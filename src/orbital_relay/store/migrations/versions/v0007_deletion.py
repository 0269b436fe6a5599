"""Make room for groups that are to be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column of version 7."""
    op.add_column("groups", sa.Column("delete_ms", sa.BigInteger))
    op.create_index("groups_to_delete", "groups", ["delete_ms"])
