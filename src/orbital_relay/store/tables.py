"""The schema: tables, columns, indexes. Rows refer to each other by integers, clients by public ids."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)

metadata: Final = MetaData()

# SQLite numbers rows by itself only where the type is exactly INTEGER; there it is 64 bits wide too.
RowId: Final = BigInteger().with_variant(Integer(), "sqlite")

SEQ_BITS: Final = 40
"""An event's key is `group << 40 | seq`: one integer, in the order of the log, so a replay reads neighbours.

A trillion events a group and eight million groups fit in 63 bits. With UUID text keys SQLite took a quarter of the
appends a second.
"""


EVENT_KEY: Final = "place"
"""Column of the event's key, for statements in SQL; the code calls it `event_key`.

It keeps this name: migrations only add, since servers of the previous version run on while the first new one migrates.
"""


def event_key(group: int, seq: int) -> int:
    """Return the key of a group's event."""
    return group << SEQ_BITS | seq


def seq_of(key: int) -> int:
    """Return the number in its group of the event with a key."""
    return key & ((1 << SEQ_BITS) - 1)


users: Final = Table(
    "users",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("user_id", Text, nullable=False, unique=True),
    Column("username", Text, nullable=False),
    # Lower case, for sign-ups alone: users of an outside identity provider may share a name.
    Column("signup_name", Text, unique=True),
    Column("password_hash", Text),
    Column("public_key", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # To the hour.
    Column("seen_ms", BigInteger),
    Column("disabled_ms", BigInteger),
    Column("disabled_reason", Text),
    # When the operator asked for the account's erasure, and when all but its content was erased.
    Column("erase_ms", BigInteger),
    Column("erased_ms", BigInteger),
    # Since when the user is a server administrator.
    Column("admin_ms", BigInteger),
    # SHA-256 of the one-time code that sets another password.
    Column("reset_digest", LargeBinary),
    Column("reset_expires_ms", BigInteger),
    # As `services.display_names` reads it.
    Column("display_name", Text),
)
Index("users_to_erase", users.c.erase_ms)
Index("users_by_reset", users.c.reset_digest)

groups: Final = Table(
    "groups",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("group_id", Text, nullable=False, unique=True),
    Column("creator", RowId, ForeignKey("users.id"), nullable=False),
    Column("encrypted_name", Text, nullable=False),
    Column("invite_code", Text, nullable=False, unique=True),
    Column("invite_expires_ms", BigInteger, nullable=False),
    # 1 where the first who joins by the code uses it up.
    Column("invite_once", Integer, nullable=False, server_default=text("0")),
    Column("created_ms", BigInteger, nullable=False),
    # The head of the log: changed only under this row's lock, in the transaction that stores the event.
    Column("last_seq", BigInteger, nullable=False),
    Column("last_stamp_ms", BigInteger, nullable=False),
    Column("last_hash", Text, nullable=False),
    Column("floor_seq", BigInteger, nullable=False, server_default=text("0")),
    # When the operator asked for the group's deletion.
    Column("delete_ms", BigInteger),
    # Number of the last event of `wire.EPOCH_KINDS`; changed with it, under the same lock.
    Column("epoch_seq", BigInteger, nullable=False, server_default=text("0")),
)
Index("groups_to_delete", groups.c.delete_ms)

members: Final = Table(
    "members",
    metadata,
    Column("group", RowId, ForeignKey("groups.id"), primary_key=True),
    Column("user", RowId, ForeignKey("users.id"), primary_key=True),
    Column("encrypted_group_key", Text, nullable=False),
    Column("joined_ms", BigInteger, nullable=False),
    Column("joined_seq", BigInteger, nullable=False),
    # 1 for an administrator; the founder is the group's `creator`.
    Column("admin", Integer, nullable=False, server_default=text("0")),
)
Index("members_by_user", members.c.user)

events: Final = Table(
    "events",
    metadata,
    Column(
        EVENT_KEY,
        BigInteger().with_variant(Integer(), "sqlite"),
        key="event_key",
        primary_key=True,
        autoincrement=False,
    ),
    Column("group", RowId, nullable=False),
    Column("stamp_ms", BigInteger, nullable=False),
    # 1 for new_message, 2 for new_keys, else 0: an integer, since both databases match it with the indexes below.
    Column("message", Integer, nullable=False),
    Column("frame", LargeBinary, nullable=False),
)
MESSAGE_MARKS: Final = {"new_message": 1, "new_keys": 2}
MESSAGES_ONLY: Final = events.c.message == literal_column("1")
"""A literal, not a parameter: SQLite uses a partial index only for a condition that it can see."""
# Its index `messages_by_stamp` is in the migration alone: an option of PostgreSQL's would load that dialect here.

KEYS_ONLY: Final = events.c.message == literal_column("2")
"""Key messages: these outlive the log's retention, at most for 30 days."""
# The same holds for its index `keys_by_place`.

threads: Final = Table(
    "threads",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("thread_id", Text, nullable=False, unique=True),
    Column("group", RowId, ForeignKey("groups.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("author", RowId, ForeignKey("users.id"), nullable=False),
    Column("author_username", Text, nullable=False),
    Column("encrypted_title", Text, nullable=False),
    Column("encrypted_body", Text, nullable=False),
    Column("root_message_id", Text),
    Column("reply_count", Integer, nullable=False, server_default=text("0")),
    Column("media_count", Integer, nullable=False, server_default=text("0")),
    Column("created_ms", BigInteger, nullable=False),
    # Of the thread itself, its newest reply or its newest medium.
    Column("active_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("active_ms", BigInteger, nullable=False, server_default=text("0")),
    # Number of the event `deleted`, while replies and annotations of the deleted thread are still to be purged. It has
    # no public id and no text any more.
    Column("deleted_seq", BigInteger),
)
# Its index `threads_to_purge` is in the migration alone, as `messages_by_stamp` is.
Index("threads_by_group", threads.c.group, threads.c.seq, unique=True)
Index("threads_by_activity", threads.c.group, threads.c.active_seq)
LIVE_THREADS: Final = threads.c.deleted_seq.is_(None)
"""Threads that readers see."""

replies: Final = Table(
    "replies",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("reply_id", Text, nullable=False, unique=True),
    Column("thread", RowId, ForeignKey("threads.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("author", RowId, ForeignKey("users.id"), nullable=False),
    Column("author_username", Text, nullable=False),
    Column("encrypted_body", Text, nullable=False),
    Column("message_id", Text),
    Column("media_count", Integer, nullable=False, server_default=text("0")),
    Column("created_ms", BigInteger, nullable=False),
)
Index("replies_by_thread", replies.c.thread, replies.c.seq, unique=True)

thread_annotations: Final = Table(
    "thread_annotations",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("annotation_id", Text, nullable=False, unique=True),
    Column("thread", RowId, ForeignKey("threads.id"), nullable=False),
    # The id of the thread, of a reply or a medium in it.
    Column("target_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("author", RowId, ForeignKey("users.id"), nullable=False),
    Column("author_username", Text, nullable=False),
    Column("encrypted_body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
Index("thread_annotations_by_seq", thread_annotations.c.thread, thread_annotations.c.seq, unique=True)

deleted_content: Final = Table(
    "deleted_content",
    metadata,
    Column("target_id", Text, primary_key=True),
    # `message`, `thread` or `reply`; see model.DeletableKind.
    Column("kind", Text, nullable=False),
    Column("group", RowId, ForeignKey("groups.id"), nullable=False),
    # The number of the event `deleted`: the row leaves with it.
    Column("seq", BigInteger, nullable=False),
)
"""What was deleted while the log may still hold its text: it is not pushed, and its missing row is no damage."""
Index("deleted_content_by_seq", deleted_content.c.group, deleted_content.c.seq, unique=True)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("user", RowId, ForeignKey("users.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
)
Index("idempotency_keys_by_age", idempotency_keys.c.used_ms)

revocations: Final = Table(
    "revocations",
    metadata,
    Column("number", RowId, primary_key=True),
    Column("token_digest", LargeBinary),
    Column("user_id", Text),
    Column("at_s", Float, nullable=False),
    Column("until_s", Float, nullable=False),
)

logins: Final = Table(
    "logins",
    metadata,
    Column("id", RowId, primary_key=True),
    # Stands in the tokens of the login; no token can be made from it.
    Column("login_id", Text, nullable=False, unique=True),
    Column("user", RowId, ForeignKey("users.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # To the hour.
    Column("seen_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)
"""Logins whose tokens may hold; revocations decide whether one does."""
Index("logins_by_user", logins.c.user)
Index("logins_by_end", logins.c.expires_ms)

invitations: Final = Table(
    "invitations",
    metadata,
    Column("number", RowId, primary_key=True),
    # SHA-256: the code itself is in no backup.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("note", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
    Column("used_by", RowId, ForeignKey("users.id")),
)
"""The operator's invitations, each good for one account."""

media: Final = Table(
    "media",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("media_id", Text, nullable=False, unique=True),
    Column("group", RowId, ForeignKey("groups.id"), nullable=False),
    Column("thread", RowId, ForeignKey("threads.id"), nullable=False),
    Column("uploader", RowId, ForeignKey("users.id"), nullable=False),
    # `uploading`, `complete`, `expired` or `abandoned`; see model.MediaState.
    Column("state", Text, nullable=False),
    # Where the bytes are: a new name for each upload, so that a late deletion never hits another upload.
    Column("folder", Text, nullable=False, unique=True),
    Column("total_chunks", Integer, nullable=False),
    Column("chunk_bytes", BigInteger, nullable=False),
    Column("declared_bytes", BigInteger),
    # The group's quota is the sum of this column: what is there and what is still to come, 0 once it is neither.
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("received_chunks", Integer, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("encrypted_metadata", Text, nullable=False),
    Column("encryption_iv", Text, nullable=False),
    Column("touched_ms", BigInteger, nullable=False),
    Column("seq", BigInteger),
    Column("uploaded_ms", BigInteger),
    Column("expires_ms", BigInteger),
    # 0 once nothing of it is left in the folder.
    Column("has_bytes", Integer, nullable=False),
)
Index("media_by_group", media.c.group, media.c.state)
Index("media_by_thread", media.c.thread, media.c.state)
Index("media_by_end", media.c.state, media.c.expires_ms)
Index("media_with_bytes", media.c.has_bytes, media.c.state)

media_chunks: Final = Table(
    "media_chunks",
    metadata,
    Column("media", RowId, ForeignKey("media.id"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("ordinal", Integer, nullable=False),
    # Each try of a chunk has a name of its own: what a refused one deletes is never another's.
    Column("blob", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
)

marks: Final = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Single numbers about the database itself, such as the heartbeat of its servers' clock; no part of a backup."""

media_downloads: Final = Table(
    "media_downloads",
    metadata,
    Column("media", RowId, ForeignKey("media.id"), primary_key=True),
    Column("user", RowId, ForeignKey("users.id"), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

devices: Final = Table(
    "devices",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("user", RowId, ForeignKey("users.id"), nullable=False),
    Column("device_id", Integer, nullable=False),
    Column("identity_key", LargeBinary, nullable=False),
    Column("suites", Integer, nullable=False),
    Column("registration_id", Integer),
    Column("seen_ms", BigInteger, nullable=False),
)
Index("devices_by_user", devices.c.user, devices.c.device_id, unique=True)

pre_keys: Final = Table(
    "pre_keys",
    metadata,
    Column("device", RowId, ForeignKey("devices.id"), primary_key=True),
    # `pre_keys`, `kyber_pre_keys` and `hpke_pre_keys` are stocks; of the other kinds each device has one key.
    Column("kind", Text, primary_key=True),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

low_stocks: Final = Table(
    "low_stocks",
    metadata,
    Column("device", RowId, ForeignKey("devices.id"), primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
)
"""Devices of which a claim left a stock low, until new keys come. Claims share the devices' rows, so it is another."""
Index("low_stocks_by_age", low_stocks.c.since_ms)

announcements: Final = Table(
    "announcements",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("user", RowId, ForeignKey("users.id"), nullable=False),
    Column("group", RowId, ForeignKey("groups.id"), nullable=False),
    Column("device_id", Integer, nullable=False),
    Column("change", Text, nullable=False),
    Column("identity_key", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""Changes of devices that have no event in a group yet: written with the change, deleted with the event."""
Index("announcements_by_group", announcements.c.group, announcements.c.user)
Index("announcements_by_age", announcements.c.at_ms)

member_states: Final = Table(
    "member_states",
    metadata,
    Column("group", RowId, ForeignKey("groups.id"), primary_key=True),
    Column("user", RowId, ForeignKey("users.id"), primary_key=True),
    Column("encrypted_state", Text, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
)
"""What a member's devices share about a group, such as how far it was read; deleted with the membership."""

records: Final = Table(
    "records",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("record_id", Text, nullable=False, unique=True),
    Column("group", RowId, ForeignKey("groups.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("author", RowId, ForeignKey("users.id"), nullable=False),
    Column("record", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("author_id", Text),
)
"""`author_id` is set when the author is erased: the record itself and its event keep naming this id."""
Index("records_by_group", records.c.group, records.c.seq, unique=True)

mailboxes: Final = Table(
    "mailboxes",
    metadata,
    Column("mailbox", Text, primary_key=True),
    Column("made_ms", BigInteger, nullable=False),
    Column("message", Text),
)
"""Mailboxes for linking devices, gone after minutes; no part of a backup."""
Index("mailboxes_by_age", mailboxes.c.made_ms)

vapid_keys: Final = Table(
    "vapid_keys",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("private_key", LargeBinary, nullable=False),
)
"""The key by which push services know the servers of this database (RFC 8292): one row, number 1."""

push_subscriptions: Final = Table(
    "push_subscriptions",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("subscription_id", Text, nullable=False, unique=True),
    Column("user", RowId, ForeignKey("users.id"), nullable=False),
    Column("endpoint", Text, nullable=False, unique=True),
    Column("p256dh", LargeBinary, nullable=False),
    Column("auth", LargeBinary, nullable=False),
    Column("device_id", Integer),
    # Empty for a token without a login; otherwise the subscription ends with the login.
    Column("login_id", Text, nullable=False),
    # JSON of `model.PushPreferences`.
    Column("preferences", Text, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
    Column("looking_until_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("claimed_until_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("wait_until_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
)
"""Devices that get push messages while their page is closed."""
Index("push_subscriptions_by_user", push_subscriptions.c.user)
Index("push_subscriptions_by_login", push_subscriptions.c.login_id)

push_positions: Final = Table(
    "push_positions",
    metadata,
    Column("subscription", RowId, ForeignKey("push_subscriptions.id"), primary_key=True),
    Column("group", RowId, ForeignKey("groups.id"), primary_key=True),
    Column("seq", BigInteger, nullable=False),
)
"""How far a device was called in a group; where a row is missing, up to the event by which its user joined."""
Index("push_positions_by_group", push_positions.c.group)
