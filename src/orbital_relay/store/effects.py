"""What each draft does to the rows, decided and written inside the transaction that gives its event a number."""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from orbital_relay import wire
from orbital_relay.api.groups import GroupCreated, GroupJoined
from orbital_relay.api.media import MediaStored
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.receipts import Receipt
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.errors import AlreadyMember, Conflict, Forbidden, MediaSettled, NotFound
from orbital_relay.model import (
    AnyDraft,
    CreateGroup,
    ExpireMedia,
    FinishMedia,
    JoinGroup,
    LeaveGroup,
    MediaState,
    PostMessage,
    PostReply,
    PostThread,
)
from orbital_relay.store import tables as t


class GroupRow(msgspec.Struct):
    """A group's row while a transaction works on it; the head moves with each event."""

    id: int
    group_id: str
    creator: int
    last_seq: int
    last_stamp_ms: int
    last_hash: str
    floor_seq: int


class Effect(msgspec.Struct, frozen=True):
    """The event that a draft becomes, and its receipt; None for a draft whose answer has no body."""

    data: wire.EventData
    receipt: Receipt | None = None


_GROUP_COLUMNS = (
    t.groups.c.id,
    t.groups.c.group_id,
    t.groups.c.creator,
    t.groups.c.last_seq,
    t.groups.c.last_stamp_ms,
    t.groups.c.last_hash,
    t.groups.c.floor_seq,
)


def no_group() -> NotFound:
    """Make the answer for a group that does not exist."""
    return NotFound("There is no such group.")


def not_member() -> Forbidden:
    """Make the answer for a group that the caller is not in."""
    return Forbidden("You are not a member of this group.")


def no_thread() -> NotFound:
    """Make the answer for a thread that does not exist."""
    return NotFound("There is no such thread.")


def no_media() -> NotFound:
    """Make the answer for a medium that does not exist."""
    return NotFound("There is no such medium.")


def may_not_take_away() -> Forbidden:
    """Make the answer for somebody else's medium."""
    return Forbidden("Only who uploaded it, or the creator of the group, takes a medium away.")


def group_id_of(conn: Connection, draft: AnyDraft) -> str:
    """
    Return the id of the group whose log a draft joins.

    Raises:
        NotFound: If the thread, the code or the medium that should tell does not exist.
    """
    match draft:
        case PostReply():
            found = conn.execute(
                select(t.groups.c.group_id)
                .join(t.threads, t.threads.c.group == t.groups.c.id)
                .where(t.threads.c.thread_id == draft.thread_id)
            ).scalar()
            if found is None:
                raise no_thread()
            return str(found)
        case JoinGroup():
            found = conn.execute(
                select(t.groups.c.group_id).where(
                    t.groups.c.invite_code == draft.invite_code, t.groups.c.invite_expires_ms > draft.at_ms
                )
            ).scalar()
            if found is None:
                raise NotFound("This invite code is not known, or no longer holds. Ask a member for the current one.")
            return str(found)
        case FinishMedia() | ExpireMedia():
            found = conn.execute(
                select(t.groups.c.group_id)
                .join(t.media, t.media.c.group == t.groups.c.id)
                .where(t.media.c.media_id == draft.media_id)
            ).scalar()
            if found is None:
                raise no_media()
            return str(found)
        case PostMessage() | PostThread() | CreateGroup() | LeaveGroup():
            return draft.group_id
        case _:
            assert_never(draft)


def load_group(conn: Connection, group_id: str, *, lock: bool = False) -> GroupRow | None:
    """Return a group's row, under its lock if `lock` (SQLite's one writer needs none)."""
    statement = select(*_GROUP_COLUMNS).where(t.groups.c.group_id == group_id)
    row = conn.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else GroupRow(*row)


def is_member(conn: Connection, group: int, user: int) -> bool:
    """Tell whether a user is in a group, by row numbers."""
    found = conn.execute(select(t.members.c.user).where(t.members.c.group == group, t.members.c.user == user))
    return found.one_or_none() is not None


def create_group_row(conn: Connection, draft: CreateGroup, *, first_prev: str) -> GroupRow:
    """
    Insert the row of a new group, whose log is still empty.

    Raises:
        Conflict: If another group has the invite code.
    """
    taken = conn.execute(select(t.groups.c.id).where(t.groups.c.invite_code == draft.invite_code)).one_or_none()
    if taken is not None:
        raise Conflict("The invite code that was drawn is in use. Try again.")
    row = conn.execute(
        insert(t.groups)
        .values(
            group_id=draft.group_id,
            creator=draft.actor.key,
            encrypted_name=draft.encrypted_name,
            invite_code=draft.invite_code,
            invite_expires_ms=draft.invite_expires_ms,
            created_ms=draft.at_ms,
            last_seq=0,
            last_stamp_ms=0,
            last_hash=first_prev,
        )
        .returning(t.groups.c.id)
    ).scalar_one()
    return GroupRow(
        id=int(row),
        group_id=draft.group_id,
        creator=draft.actor.key,
        last_seq=0,
        last_stamp_ms=0,
        last_hash=first_prev,
        floor_seq=0,
    )


def apply(conn: Connection, draft: AnyDraft, group: GroupRow, *, seq: int, stamp_ms: int, member: bool) -> Effect:
    """
    Decide a draft and write its rows.

    Everything that may refuse is read before anything is written, so a refusal needs no rollback.

    Args:
        conn: In the append's transaction, with the group's row locked.
        draft: What is asked.
        group: Its group.
        seq: The number that its event gets.
        stamp_ms: The event's `server_timestamp`.
        member: Whether the actor is in the group now.

    Raises:
        OrbitalError: If it may not be; nothing was written.
    """
    match draft:
        case PostMessage():
            return posted(draft, group.group_id, seq=seq, stamp_ms=stamp_ms, member=member)
        case PostThread():
            effect = posted(draft, group.group_id, seq=seq, stamp_ms=stamp_ms, member=member)
            _add_thread(conn, draft, group, seq=seq)
            return effect
        case PostReply():
            effect = posted(draft, group.group_id, seq=seq, stamp_ms=stamp_ms, member=member)
            _add_reply(conn, draft, seq=seq)
            return effect
        case CreateGroup():
            return _create(conn, draft, group, seq=seq)
        case JoinGroup():
            return _join(conn, draft, group, seq=seq, member=member)
        case LeaveGroup():
            return _leave(conn, draft, group, member=member)
        case FinishMedia():
            return _finish(conn, draft, seq=seq, member=member)
        case ExpireMedia():
            return _expire(conn, draft, group, member=member)
        case _:
            assert_never(draft)


def posted(
    draft: PostMessage | PostThread | PostReply, group_id: str, *, seq: int, stamp_ms: int, member: bool
) -> Effect:
    """
    Decide a post, without its row.

    Raises:
        Forbidden: If the actor is not in the group.
    """
    if not member:
        raise not_member()
    actor = draft.actor
    match draft:
        case PostMessage():
            return Effect(
                wire.NewMessage(draft.message_id, group_id, draft.encrypted_envelope, stamp_ms, actor.user_id),
                MessagePosted(message_id=draft.message_id, server_timestamp=stamp_ms, seq=seq),
            )
        case PostThread():
            at = wire.iso(draft.at_ms)
            title, body = draft.encrypted_title, draft.encrypted_body
            return Effect(
                wire.NewThread(
                    draft.thread_id,
                    group_id,
                    actor.user_id,
                    actor.username,
                    title,
                    body,
                    at,
                    root_message_id=draft.root_message_id,
                ),
                ThreadCreated(thread_id=draft.thread_id, group_id=group_id, created_at=at, seq=seq),
            )
        case PostReply():
            at = wire.iso(draft.at_ms)
            thread, body = draft.thread_id, draft.encrypted_body
            return Effect(
                wire.NewReply(
                    draft.reply_id, thread, actor.user_id, actor.username, body, at, message_id=draft.message_id
                ),
                ReplyCreated(reply_id=draft.reply_id, thread_id=thread, created_at=at, seq=seq),
            )


def _add_thread(conn: Connection, draft: PostThread, group: GroupRow, *, seq: int) -> None:
    conn.execute(
        insert(t.threads).values(
            thread_id=draft.thread_id,
            group=group.id,
            seq=seq,
            author=draft.actor.key,
            author_username=draft.actor.username,
            encrypted_title=draft.encrypted_title,
            encrypted_body=draft.encrypted_body,
            root_message_id=draft.root_message_id,
            created_ms=draft.at_ms,
        )
    )


def _add_reply(conn: Connection, draft: PostReply, *, seq: int) -> None:
    thread = conn.execute(
        update(t.threads)
        .where(t.threads.c.thread_id == draft.thread_id)
        .values(reply_count=t.threads.c.reply_count + 1)
        .returning(t.threads.c.id)
    ).scalar_one()
    conn.execute(
        insert(t.replies).values(
            reply_id=draft.reply_id,
            thread=thread,
            seq=seq,
            author=draft.actor.key,
            author_username=draft.actor.username,
            encrypted_body=draft.encrypted_body,
            message_id=draft.message_id,
            created_ms=draft.at_ms,
        )
    )


def _create(conn: Connection, draft: CreateGroup, group: GroupRow, *, seq: int) -> Effect:
    _enter(conn, group, draft.actor.key, draft.encrypted_group_key, at_ms=draft.at_ms, seq=seq)
    created_at = wire.iso(draft.at_ms)
    return Effect(
        wire.MemberJoined(group.group_id, draft.actor.user_id, draft.actor.username, created_at),
        GroupCreated(group_id=group.group_id, invite_code=draft.invite_code, created_at=created_at),
    )


def _join(conn: Connection, draft: JoinGroup, group: GroupRow, *, seq: int, member: bool) -> Effect:
    if member:
        raise AlreadyMember("You are in this group already.", group_id=group.group_id)
    name = conn.execute(select(t.groups.c.encrypted_name).where(t.groups.c.id == group.id)).scalar_one()
    count = conn.execute(select(func.count()).where(t.members.c.group == group.id)).scalar_one()
    _enter(conn, group, draft.actor.key, draft.encrypted_group_key, at_ms=draft.at_ms, seq=seq)
    if count == 0:
        # Everybody had left: who comes back first looks after the group.
        conn.execute(update(t.groups).where(t.groups.c.id == group.id).values(creator=draft.actor.key))
        group.creator = draft.actor.key
    joined_at = wire.iso(draft.at_ms)
    return Effect(
        wire.MemberJoined(group.group_id, draft.actor.user_id, draft.actor.username, joined_at),
        GroupJoined(
            group_id=group.group_id, encrypted_name=str(name), member_count=int(count) + 1, joined_at=joined_at
        ),
    )


def _enter(conn: Connection, group: GroupRow, user: int, key: str, *, at_ms: int, seq: int) -> None:
    conn.execute(
        insert(t.members).values(
            {"group": group.id, "user": user, "encrypted_group_key": key, "joined_ms": at_ms, "joined_seq": seq}
        )
    )


def _leave(conn: Connection, draft: LeaveGroup, group: GroupRow, *, member: bool) -> Effect:
    if not member:
        raise not_member()
    # A UUID may be written in capitals; ids of an outside identity provider are compared as they are first.
    names = {draft.user_id, wire.read_uuid(draft.user_id) or draft.user_id}
    leaves = draft.actor.user_id in names
    if not leaves and group.creator != draft.actor.key:
        raise Forbidden("Only the creator of the group removes others.")
    target = None
    # The id stood in an address. PostgreSQL takes no U+0000, and no user has one.
    if "\0" not in draft.user_id:
        target = conn.execute(
            select(t.users.c.id, t.users.c.user_id, t.users.c.username)
            .join(t.members, t.members.c.user == t.users.c.id)
            .where(t.members.c.group == group.id, t.users.c.user_id.in_(names))
            .order_by(t.users.c.user_id != draft.user_id)
            .limit(1)
        ).one_or_none()
    if target is None:
        raise NotFound("There is no such member in this group.")
    conn.execute(delete(t.members).where(t.members.c.group == group.id, t.members.c.user == target.id))
    # Unfinished uploads end with the membership: the room that they reserve is the group's again, at once.
    conn.execute(
        update(t.media)
        .where(
            t.media.c.group == group.id,
            t.media.c.uploader == target.id,
            t.media.c.state == MediaState.UPLOADING.value,
        )
        .values(state=MediaState.ABANDONED.value, reserved_bytes=0)
    )
    if target.id == group.creator:
        _hand_over(conn, group)
    return Effect(
        wire.MemberLeft(
            group.group_id,
            str(target.user_id),
            str(target.username),
            wire.iso(draft.at_ms),
            "left" if leaves else "removed",
        )
    )


def _hand_over(conn: Connection, group: GroupRow) -> None:
    """Make the member of longest standing the creator, so that somebody can still invite and remove."""
    heir = conn.execute(
        select(t.members.c.user).where(t.members.c.group == group.id).order_by(t.members.c.joined_seq).limit(1)
    ).scalar()
    if heir is not None:
        conn.execute(update(t.groups).where(t.groups.c.id == group.id).values(creator=heir))
        group.creator = int(heir)


def _medium(conn: Connection, media_id: str) -> Row[Any]:
    """Return a medium under its lock: an upload is given up without the group's."""
    row = conn.execute(
        select(t.media, t.threads.c.thread_id)
        .join(t.threads, t.threads.c.id == t.media.c.thread)
        .where(t.media.c.media_id == media_id)
        .with_for_update(of=t.media)
    ).one_or_none()
    if row is None:
        raise no_media()
    return row


def _finish(conn: Connection, draft: FinishMedia, *, seq: int, member: bool) -> Effect:
    row = _medium(conn, draft.media_id)
    if not member:
        raise not_member()
    if row.uploader != draft.actor.key:
        raise Forbidden("Only who began the upload can finish it.")
    # Who asks has seen every chunk stored: where some are missing, that upload was given up and another one begun.
    if row.state != MediaState.UPLOADING.value or row.received_chunks != row.total_chunks:
        raise MediaSettled("The upload is over already.")
    # From here on it counts as what it is; until now it may have been reserved generously.
    conn.execute(
        update(t.media)
        .where(t.media.c.id == row.id)
        .values(
            state=MediaState.COMPLETE.value,
            reserved_bytes=row.received_bytes,
            seq=seq,
            uploaded_ms=draft.at_ms,
            expires_ms=draft.expires_ms,
        )
    )
    _count_medium(conn, row.thread, 1)
    expires_at, size_bytes = wire.iso(draft.expires_ms), int(row.received_bytes)
    data = wire.MediaUploaded(
        draft.media_id, row.thread_id, draft.actor.user_id, row.encrypted_metadata, size_bytes, expires_at
    )
    return Effect(
        data,
        MediaStored(
            media_id=draft.media_id,
            size_bytes=size_bytes,
            uploaded_at=wire.iso(draft.at_ms),
            expires_at=expires_at,
        ),
    )


def _expire(conn: Connection, draft: ExpireMedia, group: GroupRow, *, member: bool) -> Effect:
    row = _medium(conn, draft.media_id)
    if draft.early:
        if not member:
            raise not_member()
        if draft.actor.key not in {row.uploader, group.creator}:
            raise may_not_take_away()
    if row.state != MediaState.COMPLETE.value or (not draft.early and row.expires_ms > draft.at_ms):
        raise MediaSettled("There is nothing to expire.")
    # The bytes go after this is committed: a crash in between leaves them to the next round, which finds `has_bytes`.
    conn.execute(
        update(t.media)
        .where(t.media.c.id == row.id)
        .values(state=MediaState.EXPIRED.value, reserved_bytes=0, expires_ms=min(row.expires_ms, draft.at_ms))
    )
    _count_medium(conn, row.thread, -1)
    return Effect(wire.MediaExpired(draft.media_id, row.thread_id, wire.iso(draft.at_ms)))


def _count_medium(conn: Connection, thread: int, change: int) -> None:
    conn.execute(update(t.threads).where(t.threads.c.id == thread).values(media_count=t.threads.c.media_count + change))
