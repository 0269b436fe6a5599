"""What erases accounts and deletes groups knows every table that refers to them."""

from __future__ import annotations

from orbital_relay.store import tables as t

ERASED = {
    "announcements.group",
    "announcements.user",
    "deleted_content.group",
    "devices.user",
    "groups.creator",
    "idempotency_keys.user",
    "invitations.used_by",
    "logins.user",
    "media.group",
    "media.uploader",
    "media_downloads.user",
    "member_states.group",
    "member_states.user",
    "members.group",
    "members.user",
    "push_positions.group",
    "push_subscriptions.user",
    "records.group",
    "replies.author",
    "threads.author",
    "threads.group",
    "thread_annotations.author",
}
"""Columns whose rows store/erasure.py deletes, or from which it takes the name."""
KEPT = {"records.author"}
"""Columns whose rows stay: a record is part of the group's signed roster, and names its author in its signed bytes."""


def test_every_column_is_erased_or_listed():
    """[ERASED1] Every column that refers to a user or a group is erased, or listed with the reason why it is kept."""
    found = {
        f"{table.name}.{column.name}"
        for table in t.metadata.sorted_tables
        for column in table.columns
        for key in column.foreign_keys
        if key.column.table in {t.users, t.groups}
    }

    assert found == ERASED | KEPT
