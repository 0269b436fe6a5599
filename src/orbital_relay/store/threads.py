"""Threads and replies."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, func, select

from orbital_relay import wire
from orbital_relay.api.threads import Replies, Sort, Thread, ThreadReply, Threads
from orbital_relay.core.refusals import no_thread
from orbital_relay.model import GroupId
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.paging import NAME_FACTOR, first_fitting


def thread_group(conn: Connection, thread_id: str) -> GroupId | None:
    """Return the group that a thread is in."""
    found = conn.execute(
        select(t.groups.c.group_id)
        .join(t.threads, t.threads.c.group == t.groups.c.id)
        .where(t.threads.c.thread_id == thread_id)
    ).scalar()
    return None if found is None else GroupId(found)


# What was posted last in a thread: a reply or a medium, or neither when the thread itself was.
_last = t.replies.alias("last")
_last_author = t.users.alias("last_author")
_last_medium = t.media.alias("last_medium")
_uploader = t.users.alias("uploader")


def thread_rows() -> Select[Any]:
    """Select what `thread_of` reads."""
    return (
        select(
            t.threads.c.id,
            t.threads.c.thread_id,
            t.groups.c.group_id,
            t.users.c.user_id.label("author_id"),
            t.threads.c.author_username,
            t.threads.c.encrypted_title,
            t.threads.c.encrypted_body,
            t.threads.c.root_message_id,
            t.threads.c.reply_count,
            t.threads.c.media_count,
            t.threads.c.created_ms,
            t.threads.c.active_seq,
            t.threads.c.active_ms,
            func.coalesce(_last_author.c.user_id, _uploader.c.user_id, t.users.c.user_id).label("last_author_id"),
            func.coalesce(_last.c.author_username, _uploader.c.username, t.threads.c.author_username).label(
                "last_author_username"
            ),
            _last.c.encrypted_body.label("last_encrypted_body"),
        )
        .join(t.groups, t.groups.c.id == t.threads.c.group)
        .join(t.users, t.users.c.id == t.threads.c.author)
        .outerjoin(_last, and_(_last.c.thread == t.threads.c.id, _last.c.seq == t.threads.c.active_seq))
        .outerjoin(_last_author, _last_author.c.id == _last.c.author)
        .outerjoin(
            _last_medium, and_(_last_medium.c.thread == t.threads.c.id, _last_medium.c.seq == t.threads.c.active_seq)
        )
        .outerjoin(_uploader, _uploader.c.id == _last_medium.c.uploader)
    )


def thread_of(row: Row[*tuple[Any, ...]]) -> Thread:
    """Return a thread as lists have it."""
    return Thread(
        thread_id=row.thread_id,
        group_id=row.group_id,
        author_id=row.author_id,
        author_username=row.author_username,
        encrypted_title=row.encrypted_title,
        encrypted_body=row.encrypted_body,
        root_message_id=row.root_message_id,
        reply_count=row.reply_count,
        media_count=row.media_count,
        created_at=wire.iso(row.created_ms),
        last_activity_at=wire.iso(row.active_ms),
        last_seq=row.active_seq,
        last_author_id=row.last_author_id,
        last_author_username=row.last_author_username,
        last_encrypted_body=row.last_encrypted_body,
    )


def thread_keys() -> Select[Any]:
    """Select row numbers and lengths of threads."""
    length = func.length(t.threads.c.encrypted_title) + func.length(t.threads.c.encrypted_body)
    length += func.length(t.threads.c.author_username) * NAME_FACTOR
    length += func.coalesce(func.length(_last.c.encrypted_body) + func.length(_last.c.author_username) * NAME_FACTOR, 0)
    return select(t.threads.c.id, length).outerjoin(
        _last, and_(_last.c.thread == t.threads.c.id, _last.c.seq == t.threads.c.active_seq)
    )


def threads(conn: Connection, user: int, group_id: str, *, limit: int, offset: int, sort: Sort) -> Threads:
    """Answer `GET /api/groups/{group_id}/threads`; by the numbers of the log, not by clocks."""
    group = require_member(conn, user, group_id)
    total = conn.execute(select(func.count()).where(t.threads.c.group == group, t.LIVE_THREADS)).scalar_one()
    order = {
        "created_desc": t.threads.c.seq.desc(),
        "created_asc": t.threads.c.seq.asc(),
        "active_desc": t.threads.c.active_seq.desc(),
    }[sort]
    keys = thread_keys().where(t.threads.c.group == group, t.LIVE_THREADS).order_by(order)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(thread_rows().where(t.threads.c.id.in_(numbers)).order_by(order))
    return Threads(
        threads=[thread_of(row) for row in rows],
        total_count=total,
        has_more=has_more,
    )


def require_thread(conn: Connection, user: int, thread_id: str) -> int:
    """
    Return the row number of a thread in a group that the user is in.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the user is not in its group.
    """
    group_id = thread_group(conn, thread_id)
    if group_id is None:
        raise no_thread()
    require_member(conn, user, group_id)
    return int(conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == thread_id)).scalar_one())


def thread(conn: Connection, user: int, thread_id: str) -> Thread:
    """Answer `GET /api/threads/{thread_id}`, but for its media."""
    number = require_thread(conn, user, thread_id)
    return thread_of(conn.execute(thread_rows().where(t.threads.c.id == number)).one())


def replies(conn: Connection, user: int, thread_id: str, *, limit: int, offset: int) -> Replies:
    """Answer `GET /api/threads/{thread_id}/replies`, oldest first."""
    number = require_thread(conn, user, thread_id)
    total = conn.execute(select(func.count()).where(t.replies.c.thread == number)).scalar_one()
    keys = select(t.replies.c.id, REPLY_LENGTH).where(t.replies.c.thread == number).order_by(t.replies.c.seq)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(reply_rows().where(t.replies.c.id.in_(numbers)).order_by(t.replies.c.seq))
    return Replies(replies=[reply_of(row) for row in rows], total_count=total, has_more=has_more)


REPLY_LENGTH: Final = func.length(t.replies.c.encrypted_body) + func.length(t.replies.c.author_username) * NAME_FACTOR


def reply_rows() -> Select[Any]:
    """Select what `reply_of` reads."""
    return (
        select(t.replies, t.users.c.user_id.label("author_id"), t.threads.c.thread_id)
        .join(t.users, t.users.c.id == t.replies.c.author)
        .join(t.threads, t.threads.c.id == t.replies.c.thread)
    )


def reply_of(row: Row[*tuple[Any, ...]]) -> ThreadReply:
    """Return a reply as lists have it."""
    return ThreadReply(
        reply_id=row.reply_id,
        thread_id=row.thread_id,
        author_id=row.author_id,
        author_username=row.author_username,
        encrypted_body=row.encrypted_body,
        message_id=row.message_id,
        media_count=row.media_count,
        created_at=wire.iso(row.created_ms),
        seq=row.seq,
    )
