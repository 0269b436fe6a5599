"""Make room for when a user was last seen, for disabled accounts, and for accounts that are to be erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns of version 6."""
    for name in ("seen_ms", "disabled_ms", "erase_ms", "erased_ms"):
        op.add_column("users", sa.Column(name, sa.BigInteger))
    op.add_column("users", sa.Column("disabled_reason", sa.Text))
    op.create_index("users_to_erase", "users", ["erase_ms"])
