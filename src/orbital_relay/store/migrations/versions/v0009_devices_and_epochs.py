"""Make room for devices, their public keys, records and mailboxes, and give each group its epoch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SEQ_BITS = 40
MEMBER = b'{"type":"member_'
"""How the frame of an event begins that changed a membership; before this version no other event moved the epoch."""


def upgrade() -> None:
    """Create the tables of version 9, and find each group's epoch in its log."""
    op.add_column("groups", sa.Column("epoch_seq", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    keys_only = sa.text("message = 2")
    op.create_index("keys_by_place", "events", ["place"], sqlite_where=keys_only, postgresql_where=keys_only)
    _fill_epochs()
    op.create_table(
        "devices",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("device_id", sa.Integer, nullable=False),
        sa.Column("identity_key", sa.LargeBinary, nullable=False),
        sa.Column("suites", sa.Integer, nullable=False),
        sa.Column("registration_id", sa.Integer),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("devices_by_user", "devices", ["user", "device_id"], unique=True)
    op.create_table(
        "pre_keys",
        sa.Column("device", RowId, sa.ForeignKey("devices.id"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "low_stocks",
        sa.Column("device", RowId, sa.ForeignKey("devices.id"), primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("low_stocks_by_age", "low_stocks", ["since_ms"])
    op.create_table(
        "announcements",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("user", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), nullable=False),
        sa.Column("device_id", sa.Integer, nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.Column("identity_key", sa.LargeBinary, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("announcements_by_group", "announcements", ["group", "user"])
    op.create_index("announcements_by_age", "announcements", ["at_ms"])
    op.create_table(
        "records",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("record_id", sa.Text, nullable=False, unique=True),
        sa.Column("group", RowId, sa.ForeignKey("groups.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("author", RowId, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("records_by_group", "records", ["group", "seq"], unique=True)
    op.create_table(
        "mailboxes",
        sa.Column("mailbox", sa.Text, primary_key=True),
        sa.Column("made_ms", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text),
    )
    op.create_index("mailboxes_by_age", "mailboxes", ["made_ms"])


def _fill_epochs() -> None:
    """Set each epoch to the last membership event that the log keeps, or to the last joining that the rows know."""
    conn = op.get_bind()
    groups = sa.table("groups", sa.column("id"), sa.column("epoch_seq"))
    members = sa.table("members", sa.column("group"), sa.column("joined_seq"))
    events = sa.table("events", sa.column("place"), sa.column("group"), sa.column("frame", sa.LargeBinary))
    joined = sa.select(members.c.group, sa.func.max(members.c.joined_seq)).group_by(members.c.group)
    changed = (
        sa.select(events.c.group, sa.func.max(events.c.place))
        .where(sa.func.substr(events.c.frame, 1, len(MEMBER), type_=sa.LargeBinary) == MEMBER)
        .group_by(events.c.group)
    )
    epochs: dict[int, int] = {row[0]: row[1] for row in conn.execute(joined)}
    for group, place in conn.execute(changed):
        epochs[group] = max(epochs.get(group, 0), place & ((1 << SEQ_BITS) - 1))
    for group, epoch in epochs.items():
        conn.execute(sa.update(groups).where(groups.c.id == group).values(epoch_seq=epoch))
