"""Make room for subscriptions to push messages, and for the key by which push services know this server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of version 11."""
    op.create_table(
        "vapid_keys",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("private_key", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "push_subscriptions",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("subscription_id", sa.Text, nullable=False, unique=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False, unique=True),
        sa.Column("p256dh", sa.LargeBinary, nullable=False),
        sa.Column("auth", sa.LargeBinary, nullable=False),
        sa.Column("device_id", sa.Integer),
        sa.Column("login_id", sa.Text, nullable=False),
        sa.Column("preferences", sa.Text, nullable=False),
        sa.Column("stored_ms", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for name in ("looking_until_ms", "claimed_until_ms", "wait_until_ms")
        ),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("push_subscriptions_by_user", "push_subscriptions", ["user"])
    op.create_index("push_subscriptions_by_login", "push_subscriptions", ["login_id"])
    op.create_table(
        "push_positions",
        sa.Column("subscription", RowId, sa.ForeignKey("push_subscriptions.id"), primary_key=True),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_index("push_positions_by_group", "push_positions", ["group"])
