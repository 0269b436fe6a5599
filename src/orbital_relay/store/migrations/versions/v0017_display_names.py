"""Let a person have a name of any letters beside the one for logging in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column; nobody has a display name yet."""
    op.add_column("users", sa.Column("display_name", sa.Text))
