"""Deletion of messages, threads and replies in the append transaction: facts for the decision, and the rows."""

from __future__ import annotations

from typing import Final, assert_never

from sqlalchemy import Connection, delete, insert, select, update

from orbital_relay.model import DeletableKind, DeleteContent
from orbital_relay.model.facts import Deleting
from orbital_relay.store import tables as t
from orbital_relay.store.deletion import find_message

AT_ONCE: Final = 1000
"""Replies and annotations that go in the transaction of the deletion, a few milliseconds; the clean-up purges more."""

_th, _r, _m = t.threads.c, t.replies.c, t.media.c


def deletion_facts(conn: Connection, draft: DeleteContent, group: int, *, by_admin: bool) -> Deleting:
    """Read the facts that decide a deletion; `by_admin` says whether an administrator of the group asks."""
    gone = t.deleted_content.c
    known = select(gone.kind).where(gone.target_id == draft.target_id, gone.group == group)
    if conn.execute(known).scalar_one_or_none() == draft.kind.value:
        return Deleting(found=False, deleted=True)
    match draft.kind:
        case DeletableKind.MESSAGE:
            message = find_message(conn, draft.target_id, group=group)
            if message is None:
                return Deleting(found=False)
            return Deleting(found=True, own=message.sender_id == draft.actor.user_id, by_admin=by_admin)
        case DeletableKind.THREAD:
            which = select(_th.author).where(_th.thread_id == draft.target_id, _th.group == group)
        case DeletableKind.REPLY:
            which = (
                select(_r.author)
                .join(t.threads, _th.id == _r.thread)
                .where(_r.reply_id == draft.target_id, _th.group == group, t.LIVE_THREADS)
            )
        case _:
            assert_never(draft.kind)
    author = conn.execute(which).scalar_one_or_none()
    return Deleting(found=author is not None, own=author == draft.actor.key, by_admin=by_admin)


def delete_content(conn: Connection, draft: DeleteContent, group: int, *, seq: int) -> None:
    """
    Delete content from the rows, and note that it was; its frame stays in the log until its retention ends.

    Of a large thread some replies and annotations are left, which no reader finds; `erasure.purge_thread` deletes them.
    """
    match draft.kind:
        case DeletableKind.MESSAGE:
            _delete_message(conn, draft.target_id, group)
        case DeletableKind.THREAD:
            _delete_thread(conn, draft.target_id, seq=seq)
        case DeletableKind.REPLY:
            _delete_reply(conn, draft.target_id)
        case _:
            assert_never(draft.kind)
    note = {"target_id": draft.target_id, "kind": draft.kind.value, "group": group, "seq": seq}
    conn.execute(insert(t.deleted_content).values(note))


def _delete_message(conn: Connection, message_id: str, group: int) -> None:
    """Take a message out of the list of messages: the log itself is its only row."""
    message = find_message(conn, message_id, group=group)
    if message is None:
        raise AssertionError("a message whose deletion was not refused is in the log")
    conn.execute(update(t.events).where(t.events.c.event_key == message.event_key).values(message=0))


def _delete_thread(conn: Connection, thread_id: str, *, seq: int) -> None:
    thread = conn.execute(select(_th.id).where(_th.thread_id == thread_id)).scalar_one()
    # Locked before what hangs on it goes: a download that is noted now waits, and then finds no medium.
    media = conn.execute(select(_m.id).where(_m.thread == thread).order_by(_m.id).with_for_update()).scalars().all()
    for table in (t.media_downloads, t.media_chunks):
        conn.execute(delete(table).where(table.c.media.in_(select(_m.id).where(_m.thread == thread))))
    if media:
        conn.execute(delete(t.media).where(_m.thread == thread))
    if not purge_rows(conn, thread, limit=AT_ONCE):
        # No client asks for this id, so nothing is found by it any more, nor by the thread in another server's memory.
        mark = {"thread_id": f"deleted {thread}", "deleted_seq": seq, "author_username": "", "root_message_id": None}
        conn.execute(update(t.threads).where(_th.id == thread).values(encrypted_title="", encrypted_body="", **mark))


def purge_rows(conn: Connection, thread: int, *, limit: int) -> bool:
    """Delete at most `limit` replies and annotations of a thread, and the thread behind the last; return whether."""
    left = limit
    for table in (t.replies, t.thread_annotations):
        some = select(table.c.id).where(table.c.thread == thread).limit(left + 1)
        found = conn.execute(some).scalars().all()
        conn.execute(delete(table).where(table.c.id.in_(found[:left])))
        if len(found) > left:
            return False
        left -= len(found)
    conn.execute(delete(t.threads).where(_th.id == thread))
    return True


def _delete_reply(conn: Connection, reply_id: str) -> None:
    row = conn.execute(delete(t.replies).where(_r.reply_id == reply_id).returning(_r.thread, _r.seq)).one()
    note = t.thread_annotations.c
    conn.execute(delete(t.thread_annotations).where(note.thread == row.thread, note.target_id == reply_id))
    here = _th.id == row.thread
    conn.execute(update(t.threads).where(here).values(reply_count=_th.reply_count - 1))
    # Only the newest reply or medium says when the thread was active: without this one it is the one before.
    if conn.execute(select(_th.active_seq).where(here)).scalar_one() == row.seq:
        active_seq, active_ms = _last_activity(conn, row.thread)
        conn.execute(update(t.threads).where(here).values(active_seq=active_seq, active_ms=active_ms))


def _last_activity(conn: Connection, thread: int) -> tuple[int, int]:
    """Return number and time of the newest of a thread itself, its replies and its media."""
    opened = conn.execute(select(_th.seq, _th.created_ms).where(_th.id == thread)).one()
    replied = conn.execute(
        select(_r.seq, _r.created_ms).where(_r.thread == thread).order_by(_r.seq.desc()).limit(1)
    ).first()
    shown = conn.execute(
        select(_m.seq, _m.uploaded_ms).where(_m.thread == thread, _m.seq.is_not(None)).order_by(_m.seq.desc()).limit(1)
    ).first()
    return max((int(row[0]), int(row[1])) for row in (opened, replied, shown) if row is not None)
