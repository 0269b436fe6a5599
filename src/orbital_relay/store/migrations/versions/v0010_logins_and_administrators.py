"""Make room for logins that their user can list and end, one-time codes, administrators, and roles in a group."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orbital_relay.store.tables import RowId

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table and the columns of version 10."""
    op.create_table(
        "logins",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("login_id", sa.Text, nullable=False, unique=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("logins_by_user", "logins", ["user"])
    op.create_index("logins_by_end", "logins", ["expires_ms"])
    op.add_column("users", sa.Column("admin_ms", sa.BigInteger))
    op.add_column("users", sa.Column("reset_digest", sa.LargeBinary))
    op.add_column("users", sa.Column("reset_expires_ms", sa.BigInteger))
    op.create_index("users_by_reset", "users", ["reset_digest"])
    op.add_column("members", sa.Column("admin", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("groups", sa.Column("invite_once", sa.Integer, nullable=False, server_default=sa.text("0")))
