"""Make room for the operator's invitations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orbital_relay.store.tables import RowId

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of version 5."""
    op.create_table(
        "invitations",
        sa.Column("number", RowId, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("used_ms", sa.BigInteger),
        sa.Column("used_by", RowId, sa.ForeignKey("users.id")),
    )
