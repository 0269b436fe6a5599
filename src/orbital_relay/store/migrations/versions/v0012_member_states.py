"""Make room for what the devices of a member share about a group."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table of version 12."""
    op.create_table(
        "member_states",
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), primary_key=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("encrypted_state", sa.Text, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
