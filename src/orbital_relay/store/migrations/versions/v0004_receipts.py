"""Drop the HTTP status of a stored answer: the operation that an idempotency key is bound to implies it."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Leave only the receipt, as JSON."""
    op.drop_column("idempotency_keys", "status")
