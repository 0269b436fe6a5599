"""Make the log, accounts, groups, threads and replies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of version 1."""
    op.create_table(
        "users",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False, unique=True),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("signup_name", sa.Text, unique=True),
        sa.Column("password_hash", sa.Text),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "groups",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("group_id", sa.Text, nullable=False, unique=True),
        sa.Column("creator", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("encrypted_name", sa.Text, nullable=False),
        sa.Column("invite_code", sa.Text, nullable=False, unique=True),
        sa.Column("invite_expires_ms", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("last_stamp_ms", sa.BigInteger, nullable=False),
        sa.Column("last_hash", sa.Text, nullable=False),
        sa.Column("floor_seq", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_table(
        "members",
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), primary_key=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("encrypted_group_key", sa.Text, nullable=False),
        sa.Column("joined_ms", sa.BigInteger, nullable=False),
        sa.Column("joined_seq", sa.BigInteger, nullable=False),
    )
    op.create_index("members_by_user", "members", ["user"])
    op.create_table(
        "events",
        sa.Column("place", RowId, primary_key=True, autoincrement=False),
        sa.Column("group", RowId, nullable=False),
        sa.Column("stamp_ms", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Integer, nullable=False),
        sa.Column("frame", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "messages_by_stamp",
        "events",
        ["group", "stamp_ms"],
        sqlite_where=sa.text("message = 1"),
        postgresql_where=sa.text("message = 1"),
    )
    op.create_table(
        "threads",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("thread_id", sa.Text, nullable=False, unique=True),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("author", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("author_username", sa.Text, nullable=False),
        sa.Column("encrypted_title", sa.Text, nullable=False),
        sa.Column("encrypted_body", sa.Text, nullable=False),
        sa.Column("root_message_id", sa.Text),
        sa.Column("reply_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("media_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("threads_by_group", "threads", ["group", "seq"], unique=True)
    op.create_table(
        "replies",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("reply_id", sa.Text, nullable=False, unique=True),
        sa.Column("thread", RowId, sa.ForeignKey("threads.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("author", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("author_username", sa.Text, nullable=False),
        sa.Column("encrypted_body", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("media_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("replies_by_thread", "replies", ["thread", "seq"], unique=True)
    op.create_table(
        "idempotency_keys",
        sa.Column("user", RowId, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("used_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["used_ms"])
    op.create_table(
        "revocations",
        sa.Column("number", RowId, primary_key=True),
        sa.Column("token_digest", sa.LargeBinary),
        sa.Column("user_id", sa.Text),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("until_s", sa.Float, nullable=False),
    )
