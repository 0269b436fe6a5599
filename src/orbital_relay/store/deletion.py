"""Content that can be deleted, and what was: where a message, a thread or a reply is, by its id."""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

import msgspec
from sqlalchemy import Connection, select

from orbital_relay import wire
from orbital_relay.model import DeletableKind, GroupId
from orbital_relay.store import tables as t
from orbital_relay.store.paging import batched
from orbital_relay.store.threads import thread_group

_e, _g = t.events.c, t.groups.c


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in the log: its event's key, its id, and the id of the user who sent it."""

    event_key: int
    message_id: str
    sender_id: str


class _Data(msgspec.Struct):
    """The members of a message that name it and its author."""

    message_id: str
    sender_id: str


_decode_data = msgspec.json.Decoder(_Data).decode


def find_message(conn: Connection, message_id: str, *, group: int) -> StoredMessage | None:
    """
    Return a message of a group that is listed and in the log.

    The id has the message's stamp, and no two events of a group share one: that is one look-up in an index.
    """
    at_ms = wire.uuid_time_ms(message_id)
    if at_ms is None:
        return None
    row = conn.execute(
        select(_e.event_key, _e.frame).where(_e.group == group, t.MESSAGES_ONLY, _e.stamp_ms == at_ms)
    ).one_or_none()
    if row is None:
        return None
    data = _data_of(row.frame)
    return StoredMessage(row.event_key, message_id, data.sender_id) if data.message_id == message_id else None


def _data_of(frame: bytes) -> _Data:
    return _decode_data(wire.open_frame(bytes(frame)).data)


def content_group(conn: Connection, user: int, kind: DeletableKind, target_id: str) -> GroupId | None:
    """Return the group that content is in, or was in until it was deleted; None when nothing has this id."""
    gone = t.deleted_content.c
    was_in = (
        select(_g.group_id)
        .join(t.deleted_content, gone.group == _g.id)
        .where(gone.target_id == target_id, gone.kind == kind.value)
    )
    found = conn.execute(was_in).scalar_one_or_none()
    if found is not None:
        return GroupId(found)
    match kind:
        case DeletableKind.THREAD:
            return thread_group(conn, target_id)
        case DeletableKind.REPLY:
            found = conn.execute(
                select(_g.group_id)
                .join(t.threads, t.threads.c.group == _g.id)
                .join(t.replies, t.replies.c.thread == t.threads.c.id)
                .where(t.replies.c.reply_id == target_id, t.LIVE_THREADS)
            ).scalar_one_or_none()
            return None if found is None else GroupId(found)
        case DeletableKind.MESSAGE:
            return _message_group(conn, user, target_id)
        case _:
            assert_never(kind)


def _message_group(conn: Connection, user: int, message_id: str) -> GroupId | None:
    """
    Return the group of a message: one of the user's, or else of all.

    Two searches at most. The protocol tells a caller outside the group that it exists (403), so the second one looks
    into the index once for each group that is as young as the message.
    """
    at_ms = wire.uuid_time_ms(message_id)
    if at_ms is None:
        return None
    mine = select(t.members.c.group).where(t.members.c.user == user)
    others = select(_g.id).where(_g.last_stamp_ms >= at_ms, _g.id.not_in(mine))
    for groups in (mine, others):
        # No join: the planner of SQLite might begin with the events, and read all of them.
        at_once = select(_e.group, _e.frame).where(_e.group.in_(groups), t.MESSAGES_ONLY, _e.stamp_ms == at_ms)
        # Events of one stamp are few: servers that share a database may give the same one in different groups.
        for row in conn.execute(at_once).all():
            if _data_of(row.frame).message_id == message_id:
                return GroupId(conn.execute(select(_g.group_id).where(_g.id == row.group)).scalar_one())
    return None


def has_content(conn: Connection, kind: DeletableKind, target_id: str, *, group: int) -> bool:
    """Return whether a group still has content that was deleted; for a message, whether it is still listed."""
    match kind:
        case DeletableKind.MESSAGE:
            return find_message(conn, target_id, group=group) is not None
        case DeletableKind.THREAD:
            which = select(t.threads.c.id).where(t.threads.c.thread_id == target_id)
        case DeletableKind.REPLY:
            join = t.replies.join(t.threads, t.threads.c.id == t.replies.c.thread)
            which = select(t.replies.c.id).select_from(join).where(t.replies.c.reply_id == target_id, t.LIVE_THREADS)
        case _:
            assert_never(kind)
    return conn.execute(which).one_or_none() is not None


def thread_folders(conn: Connection, thread_id: str) -> list[str]:
    """Return the folders with the bytes of a thread's media."""
    m = t.media.c
    folders = (
        select(m.folder)
        .join(t.threads, t.threads.c.id == m.thread)
        .where(t.threads.c.thread_id == thread_id, m.has_bytes == 1)
        .order_by(m.id)
    )
    return [str(folder) for folder in conn.execute(folders).scalars()]


def deleted_among(conn: Connection, target_ids: Collection[str]) -> set[str]:
    """Return those of some ids whose content was deleted."""
    gone = t.deleted_content.c
    found: set[str] = set()
    for some in batched(target_ids, 500):
        found.update(conn.execute(select(gone.target_id).where(gone.target_id.in_(some))).scalars())
    return found
