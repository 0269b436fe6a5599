"""The rows of erased accounts and deleted groups."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, case, delete, func, literal_column, select, update

from orbital_relay.model import GroupId, Principal, UserId
from orbital_relay.ports import DueDeletion, DueErasure
from orbital_relay.store import tables as t
from orbital_relay.store.append.deletion import purge_rows
from orbital_relay.store.media import COMPLETE, UPLOADING
from orbital_relay.store.push import forget_user
from orbital_relay.store.uploads import release

SOME: Final = 20
"""Users or groups of one step."""
NOBODY: Final = "deleted"
"""The name of a user who was erased."""
NOTHING: Final = "AA=="
"""What stands for an erased text where others have answered: base64, as every `encrypted_*`, of one byte."""

_u, _g, _m = t.users.c, t.groups.c, t.media.c


def request_erasure(conn: Connection, user: int, *, at_ms: int) -> None:
    """Disable an account and mark it for erasure."""
    conn.execute(
        update(t.users)
        .where(_u.id == user)
        .values(
            disabled_ms=func.coalesce(_u.disabled_ms, at_ms),
            disabled_reason="it is being deleted",
            erase_ms=func.coalesce(_u.erase_ms, at_ms),
        )
    )


def request_deletion(conn: Connection, group: int, *, at_ms: int) -> None:
    """Let nobody else join a group, and mark it for deletion."""
    conn.execute(
        update(t.groups).where(_g.id == group).values(invite_expires_ms=0, delete_ms=func.coalesce(_g.delete_ms, at_ms))
    )


def due_erasures(conn: Connection) -> list[DueErasure]:
    """Return users that are marked and not erased yet, with their groups."""
    users = conn.execute(
        select(_u.id, _u.user_id, _u.username)
        .where(_u.erase_ms.is_not(None), _u.erased_ms.is_(None))
        .order_by(_u.id)
        .limit(SOME)
    ).all()
    found = []
    for row in users:
        groups = conn.execute(
            select(_g.group_id)
            .join(t.members, t.members.c.group == _g.id)
            .where(t.members.c.user == row.id)
            .order_by(_g.id)
        ).scalars()
        found.append(DueErasure(Principal(row.id, UserId(row.user_id), row.username, 0), list(map(GroupId, groups))))
    return found


def erase_user(conn: Connection, user: int, *, new_user_id: str, at_ms: int) -> bool:
    """Erase name, id, password, keys and media of a user who is in no group; return False if the user is in one."""
    # Under the row's lock: another server may be at it.
    row = conn.execute(select(_u.erased_ms, _u.user_id).where(_u.id == user).with_for_update()).one()
    if row.erased_ms is not None:
        return True
    if conn.execute(select(t.members.c.group).where(t.members.c.user == user).limit(1)).first() is not None:
        return False
    release(conn, _m.uploader == user)
    _expire(conn, _m.uploader == user, at_ms=at_ms)
    devices = select(t.devices.c.id).where(t.devices.c.user == user)
    for table in (t.pre_keys, t.low_stocks):
        conn.execute(delete(table).where(table.c.device.in_(devices)))
    conn.execute(delete(t.devices).where(t.devices.c.user == user))
    conn.execute(delete(t.announcements).where(t.announcements.c.user == user))
    forget_user(conn, user)
    conn.execute(delete(t.idempotency_keys).where(t.idempotency_keys.c.user == user))
    conn.execute(delete(t.media_downloads).where(t.media_downloads.c.user == user))
    conn.execute(delete(t.logins).where(t.logins.c.user == user))
    conn.execute(update(t.invitations).where(t.invitations.c.used_by == user).values(used_by=None, note=""))
    for table in (t.threads, t.replies, t.thread_annotations):
        conn.execute(update(table).where(table.c.author == user).values(author_username=NOBODY))
    # A record names its author in its signed bytes: under another id no client could verify the group's roster.
    conn.execute(update(t.records).where(t.records.c.author == user).values(author_id=row.user_id))
    conn.execute(
        update(t.users)
        .where(_u.id == user)
        .values(
            user_id=new_user_id,
            username=NOBODY,
            display_name=None,
            signup_name=None,
            password_hash=None,
            public_key="{}",
            seen_ms=None,
            disabled_reason="",
            admin_ms=None,
            reset_digest=None,
            reset_expires_ms=None,
            erased_ms=at_ms,
        )
    )
    return True


def _expire(conn: Connection, which: ColumnElement[bool], *, at_ms: int) -> None:
    """Let the time of media be over now; the clean-up appends the event and deletes the bytes."""
    sooner = case((_m.expires_ms > at_ms, at_ms), else_=_m.expires_ms)
    conn.execute(update(t.media).where(which, _m.state == COMPLETE).values(expires_ms=sooner))


def erase_content(conn: Connection, *, before_ms: int) -> int:
    """Erase what users have written that were erased before a moment; return how many users that finished."""
    users = conn.execute(
        select(_u.id)
        .where(_u.erase_ms.is_not(None), _u.erased_ms < before_ms)
        .order_by(_u.id)
        .limit(SOME)
        .with_for_update()
    ).scalars()
    count = 0
    for user in users.all():
        _erase_replies(conn, user)
        conn.execute(delete(t.thread_annotations).where(t.thread_annotations.c.author == user))
        _erase_threads(conn, user)
        conn.execute(update(t.users).where(_u.id == user).values(erase_ms=None))
        count += 1
    return count


def _erase_replies(conn: Connection, user: int) -> None:
    r = t.replies.c
    own = select(r.thread, func.count().label("replies")).where(r.author == user).group_by(r.thread)
    for thread, replies in conn.execute(own).all():
        conn.execute(
            update(t.threads).where(t.threads.c.id == thread).values(reply_count=t.threads.c.reply_count - replies)
        )
    conn.execute(delete(t.replies).where(r.author == user))


def _erase_threads(conn: Connection, user: int) -> None:
    """Delete threads that hold nothing of others; of the rest the text goes, and the answers of others stay."""
    th = t.threads.c
    answered = select(literal_column("1")).where(t.replies.c.thread == th.id).exists()
    shown = select(literal_column("1")).where(_m.thread == th.id).exists()
    annotated = select(literal_column("1")).where(t.thread_annotations.c.thread == th.id).exists()
    conn.execute(delete(t.threads).where(th.author == user, ~answered, ~shown, ~annotated))
    conn.execute(update(t.threads).where(th.author == user).values(encrypted_title=NOTHING, encrypted_body=NOTHING))


def purge_thread(conn: Connection, *, limit: int) -> bool:
    """Delete at most `limit` replies and annotations of a thread that was deleted; return False if there was none."""
    th = t.threads.c
    # Another server may be at it.
    marked = select(th.id).where(~t.LIVE_THREADS).order_by(th.deleted_seq).limit(1).with_for_update(skip_locked=True)
    thread = conn.execute(marked).scalar_one_or_none()
    if thread is None:
        return False
    purge_rows(conn, thread, limit=limit)
    return True


def due_deletions(conn: Connection) -> list[DueDeletion]:
    """Return groups that are marked, with their members, the creator last."""
    groups = conn.execute(
        select(_g.id, _g.group_id, _g.creator).where(_g.delete_ms.is_not(None)).order_by(_g.id).limit(SOME)
    ).all()
    found = []
    for group in groups:
        rows = conn.execute(
            select(_u.id, _u.user_id, _u.username)
            .join(t.members, t.members.c.user == _u.id)
            .where(t.members.c.group == group.id)
            .order_by(_u.id == group.creator, t.members.c.joined_seq)
        )
        members = [Principal(row.id, UserId(row.user_id), row.username, 0) for row in rows]
        found.append(DueDeletion(group.id, GroupId(group.group_id), members))
    return found


def delete_group(conn: Connection, group: int, *, at_ms: int, limit: int) -> bool:
    """Delete a group without members, at most `limit` rows of a kind at a time; return whether it is gone."""
    row = conn.execute(select(_g.id).where(_g.id == group, _g.delete_ms.is_not(None)).with_for_update()).one_or_none()
    if row is None:
        return True
    if conn.execute(select(t.members.c.user).where(t.members.c.group == group).limit(1)).first() is not None:
        return False
    release(conn, _m.group == group)
    _expire(conn, _m.group == group, at_ms=at_ms)
    left = select(_m.id).where(_m.group == group, (_m.state.in_((UPLOADING, COMPLETE))) | (_m.has_bytes == 1)).limit(1)
    if conn.execute(left).first() is not None:
        return False
    e = t.events.c
    some = (
        select(e.event_key)
        .where(e.event_key >= t.event_key(group, 0), e.event_key < t.event_key(group + 1, 0))
        .limit(limit)
    )
    if conn.execute(delete(t.events).where(e.event_key.in_(some))).rowcount >= limit:
        return False
    media = select(_m.id).where(_m.group == group)
    conn.execute(delete(t.media_downloads).where(t.media_downloads.c.media.in_(media)))
    conn.execute(delete(t.media_chunks).where(t.media_chunks.c.media.in_(media)))
    conn.execute(delete(t.media).where(_m.group == group))
    threads = select(t.threads.c.id).where(t.threads.c.group == group)
    for table in (t.replies, t.thread_annotations):
        some = select(table.c.id).where(table.c.thread.in_(threads)).limit(limit)
        if conn.execute(delete(table).where(table.c.id.in_(some))).rowcount >= limit:
            return False
    conn.execute(delete(t.threads).where(t.threads.c.group == group))
    for table in (t.records, t.announcements, t.push_positions, t.member_states, t.deleted_content):
        conn.execute(delete(table).where(table.c.group == group))
    conn.execute(delete(t.groups).where(_g.id == group))
    return True
