"""Rows of each kind of draft: facts for its decision (last sequence number of a group), and its inserts."""

from __future__ import annotations

from typing import assert_never

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from orbital_relay import wire
from orbital_relay.core.decide import Effect, names_of
from orbital_relay.core.refusals import no_code, no_media, no_thread
from orbital_relay.model import (
    AnnounceDevice,
    AnyDraft,
    CreateGroup,
    DeleteContent,
    ExpireMedia,
    FinishMedia,
    JoinGroup,
    LeaveGroup,
    MediaState,
    PostAnnotation,
    PostKeys,
    PostMessage,
    PostRecord,
    PostReply,
    PostThread,
    SetRole,
)
from orbital_relay.model.facts import (
    Annotating,
    Announcing,
    Appointing,
    Creation,
    DraftFacts,
    Facts,
    Joining,
    Leaving,
    Named,
)
from orbital_relay.store import tables as t
from orbital_relay.store.append.batch import GroupRow
from orbital_relay.store.append.deletion import delete_content, deletion_facts
from orbital_relay.store.append.media import expire_medium, finish_medium, medium_facts
from orbital_relay.store.prepared import Prepared
from orbital_relay.store.thread_annotations import add_annotation, has_target

_GROUP_COLUMNS = (
    t.groups.c.id,
    t.groups.c.group_id,
    t.groups.c.creator,
    t.groups.c.last_seq,
    t.groups.c.last_stamp_ms,
    t.groups.c.last_hash,
    t.groups.c.floor_seq,
    t.groups.c.epoch_seq,
)

_GROUP_OF_THREAD = Prepared(
    select(t.groups.c.group_id)
    .join(t.threads, t.threads.c.group == t.groups.c.id)
    .where(t.threads.c.thread_id == bindparam("thread_id"))
)
_ADD_THREAD = Prepared(
    insert(t.threads),
    columns=(
        *("thread_id", "group", "seq", "author", "author_username", "encrypted_title", "encrypted_body"),
        *("root_message_id", "created_ms", "active_seq", "active_ms"),
    ),
)
_MOVE_THREAD = Prepared(
    update(t.threads)
    .where(t.threads.c.thread_id == bindparam("of_thread"))
    .values(reply_count=t.threads.c.reply_count + 1, active_seq=bindparam("reply_seq"), active_ms=bindparam("reply_ms"))
    .returning(t.threads.c.id)
)
_ADD_REPLY = Prepared(
    insert(t.replies),
    columns=(
        *("reply_id", "thread", "seq", "author", "author_username", "encrypted_body", "message_id", "created_ms"),
    ),
)


def group_id_of(conn: Connection, draft: AnyDraft) -> str:
    """
    Return the id of the group whose log a draft joins.

    Raises:
        NotFound: If the thread, the code or the medium that names the group does not exist.
    """
    match draft:
        case PostReply() | PostAnnotation():
            row = _GROUP_OF_THREAD.one(conn, thread_id=draft.thread_id)
            if row is None:
                raise no_thread()
            return str(row[0])
        case JoinGroup():
            found = conn.execute(
                select(t.groups.c.group_id).where(
                    t.groups.c.invite_code == draft.invite_code, t.groups.c.invite_expires_ms > draft.at_ms
                )
            ).scalar()
            if found is None:
                raise no_code()
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
        case PostMessage() | PostThread() | CreateGroup() | LeaveGroup() | SetRole() | DeleteContent():
            return draft.group_id
        case PostKeys() | PostRecord() | AnnounceDevice():
            return draft.group_id
        case _:
            assert_never(draft)


def load_group(conn: Connection, group_id: str, *, lock: bool = False) -> GroupRow | None:
    """Return a group's row, under its lock if `lock` (SQLite's one writer needs none)."""
    statement = select(*_GROUP_COLUMNS).where(t.groups.c.group_id == group_id)
    row = conn.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else GroupRow(*row)


def is_member(conn: Connection, group: int, user: int) -> bool:
    """Return whether a user is in a group, by row numbers."""
    found = conn.execute(select(t.members.c.user).where(t.members.c.group == group, t.members.c.user == user))
    return found.one_or_none() is not None


def new_group(draft: CreateGroup, *, first_prev: str) -> GroupRow:
    """Return a group that has no row yet: its log is empty, and its row number 0 until `write` inserts it."""
    return GroupRow(0, draft.group_id, draft.actor.key, 0, 0, first_prev, 0, 0)


def facts_for(conn: Connection, draft: AnyDraft, group: GroupRow, *, member: bool) -> Facts:
    """Read what decides a draft, under its group's lock, without writing."""
    about: DraftFacts
    match draft:
        case PostMessage() | PostThread() | PostReply() | PostKeys() | PostRecord():
            about = None
        case PostAnnotation():
            about = Annotating(has_target(conn, draft))
        case AnnounceDevice():
            pending = select(t.announcements.c.id).where(t.announcements.c.id == draft.announcement)
            about = Announcing(conn.execute(pending).one_or_none() is not None)
        case CreateGroup():
            taken = conn.execute(select(t.groups.c.id).where(t.groups.c.invite_code == draft.invite_code))
            own = (
                select(func.count())
                .select_from(t.members.join(t.groups, t.groups.c.id == t.members.c.group))
                .where(t.members.c.user == draft.actor.key, t.groups.c.creator == draft.actor.key)
            )
            about = Creation(taken.one_or_none() is not None, int(conn.execute(own).scalar_one()))
        case JoinGroup():
            name = conn.execute(select(t.groups.c.encrypted_name).where(t.groups.c.id == group.id)).scalar_one()
            count = conn.execute(select(func.count()).where(t.members.c.group == group.id)).scalar_one()
            about = Joining(str(name), int(count))
        case LeaveGroup():
            about = _leaving(conn, draft, group)
        case SetRole():
            about = Appointing(_named(conn, draft, group))
        case DeleteContent():
            about = deletion_facts(conn, draft, group.id, by_admin=is_admin(conn, group.id, draft.actor.key))
        case FinishMedia() | ExpireMedia():
            about = medium_facts(conn, draft.media_id, admin=_by_admin(conn, draft, group))
        case _:
            assert_never(draft)
    return Facts(group.group_id, group.creator, member, group.epoch_seq, about)


def is_admin(conn: Connection, group: int, user: int) -> bool:
    """Return whether a user is an administrator of a group, by row numbers; its founder need not be."""
    m = t.members.c
    return conn.execute(select(m.user).where(m.group == group, m.user == user, m.admin == 1)).one_or_none() is not None


def _by_admin(conn: Connection, draft: FinishMedia | ExpireMedia, group: GroupRow) -> bool:
    """Return whether an administrator deletes a medium: nothing else of media depends on it."""
    return isinstance(draft, ExpireMedia) and draft.early and is_admin(conn, group.id, draft.actor.key)


def _named(conn: Connection, draft: LeaveGroup | SetRole, group: GroupRow) -> Named | None:
    """Return the member whom a draft names."""
    # The id stood in an address. PostgreSQL takes no U+0000, and no user has one.
    if "\0" in draft.user_id:
        return None
    row = conn.execute(
        select(t.users.c.id, t.users.c.user_id, t.users.c.username, t.members.c.admin)
        .join(t.members, t.members.c.user == t.users.c.id)
        .where(t.members.c.group == group.id, t.users.c.user_id.in_(sorted(names_of(draft))))
        # An id of an outside identity provider is compared as it is first.
        .order_by(t.users.c.user_id != draft.user_id)
        .limit(1)
    ).one_or_none()
    return None if row is None else Named(int(row.id), str(row.user_id), str(row.username), row.admin == 1)


def _leaving(conn: Connection, draft: LeaveGroup, group: GroupRow) -> Leaving:
    by_admin = is_admin(conn, group.id, draft.actor.key)
    leaver = _named(conn, draft, group)
    if leaver is None:
        return Leaving(None, None, by_admin)
    heir = conn.execute(
        select(t.members.c.user)
        .where(t.members.c.group == group.id, t.members.c.user != leaver.key)
        .order_by(t.members.c.admin.desc(), t.members.c.joined_seq)
        .limit(1)
    ).scalar()
    return Leaving(leaver, heir, by_admin)


def write(conn: Connection, draft: AnyDraft, group: GroupRow, effect: Effect, *, seq: int) -> None:
    """
    Write the rows of a draft that was decided.

    Args:
        conn: In the append's transaction, with the group's row locked.
        draft: What was asked.
        group: Its group; a new one gets its row number.
        effect: What was decided.
        seq: The number of its event.
    """
    match draft:
        case PostMessage() | PostKeys():
            pass
        case PostRecord():
            _add_record(conn, draft, group, seq=seq)
        case AnnounceDevice():
            conn.execute(delete(t.announcements).where(t.announcements.c.id == draft.announcement))
        case PostThread() | PostReply() | PostAnnotation():
            _add_post(conn, draft, group, seq=seq)
        case CreateGroup():
            group.id = _add_group(conn, draft, group)
            _add_member(conn, group, draft.actor.key, draft.encrypted_group_key, at_ms=draft.at_ms, seq=seq)
        case JoinGroup():
            _add_member(conn, group, draft.actor.key, draft.encrypted_group_key, at_ms=draft.at_ms, seq=seq)
            # A code for one person is used up.
            used_up = update(t.groups).where(t.groups.c.id == group.id, t.groups.c.invite_once == 1)
            conn.execute(used_up.values(invite_expires_ms=0))
        case LeaveGroup():
            _remove_member(conn, group, effect)
        case SetRole():
            _set_role(conn, draft, group, effect)
        case FinishMedia():
            finish_medium(conn, draft, seq=seq)
        case ExpireMedia():
            expire_medium(conn, draft)
        case DeleteContent():
            delete_content(conn, draft, group.id, seq=seq)
        case _:
            assert_never(draft)
    if effect.creator is not None:
        conn.execute(update(t.groups).where(t.groups.c.id == group.id).values(creator=effect.creator))
    if effect.data.kind in wire.EPOCH_KINDS:
        group.epoch_seq = seq
        conn.execute(update(t.groups).where(t.groups.c.id == group.id).values(epoch_seq=seq))


def _add_group(conn: Connection, draft: CreateGroup, group: GroupRow) -> int:
    return int(
        conn.execute(
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
                last_hash=group.last_hash,
            )
            .returning(t.groups.c.id)
        ).scalar_one()
    )


def _add_record(conn: Connection, draft: PostRecord, group: GroupRow, *, seq: int) -> None:
    conn.execute(
        insert(t.records).values(
            record_id=draft.record_id,
            group=group.id,
            seq=seq,
            author=draft.actor.key,
            record=draft.record,
            created_ms=draft.at_ms,
        )
    )


def _add_post(conn: Connection, draft: PostThread | PostReply | PostAnnotation, group: GroupRow, *, seq: int) -> None:
    match draft:
        case PostThread():
            _add_thread(conn, draft, group, seq=seq)
        case PostReply():
            _add_reply(conn, draft, seq=seq)
        case PostAnnotation():
            add_annotation(conn, draft, seq=seq)
        case _:
            assert_never(draft)


def _add_thread(conn: Connection, draft: PostThread, group: GroupRow, *, seq: int) -> None:
    _ADD_THREAD.run(
        conn,
        thread_id=draft.thread_id,
        group=group.id,
        seq=seq,
        author=draft.actor.key,
        author_username=draft.actor.username,
        encrypted_title=draft.encrypted_title,
        encrypted_body=draft.encrypted_body,
        root_message_id=draft.root_message_id,
        created_ms=draft.at_ms,
        active_seq=seq,
        active_ms=draft.at_ms,
    )


def _add_reply(conn: Connection, draft: PostReply, *, seq: int) -> None:
    thread = _MOVE_THREAD.one(conn, of_thread=draft.thread_id, reply_seq=seq, reply_ms=draft.at_ms)
    if thread is None:
        raise AssertionError("group_id_of() found the thread in this transaction")
    _ADD_REPLY.run(
        conn,
        reply_id=draft.reply_id,
        thread=thread[0],
        seq=seq,
        author=draft.actor.key,
        author_username=draft.actor.username,
        encrypted_body=draft.encrypted_body,
        message_id=draft.message_id,
        created_ms=draft.at_ms,
    )


def _add_member(conn: Connection, group: GroupRow, user: int, key: str, *, at_ms: int, seq: int) -> None:
    conn.execute(
        insert(t.members).values(
            {"group": group.id, "user": user, "encrypted_group_key": key, "joined_ms": at_ms, "joined_seq": seq}
        )
    )


def _remove_member(conn: Connection, group: GroupRow, effect: Effect) -> None:
    if not isinstance(effect.data, wire.MemberLeft):
        raise AssertionError("a draft to leave that was not refused ends a membership")  # noqa: TRY004 - an internal bug
    user = conn.execute(select(t.users.c.id).where(t.users.c.user_id == effect.data.user_id)).scalar_one()
    conn.execute(delete(t.members).where(t.members.c.group == group.id, t.members.c.user == user))
    conn.execute(delete(t.member_states).where(t.member_states.c.group == group.id, t.member_states.c.user == user))
    # Announcements of the member's devices no longer concern the group.
    conn.execute(delete(t.announcements).where(t.announcements.c.group == group.id, t.announcements.c.user == user))
    # Unfinished uploads end with the membership: the room that they reserve is the group's again, at once.
    conn.execute(
        update(t.media)
        .where(t.media.c.group == group.id, t.media.c.uploader == user, t.media.c.state == MediaState.UPLOADING.value)
        .values(state=MediaState.ABANDONED.value, reserved_bytes=0)
    )


def _set_role(conn: Connection, draft: SetRole, group: GroupRow, effect: Effect) -> None:
    if not isinstance(effect.data, wire.RoleChanged):
        raise AssertionError("a draft to set a role that was not refused changes it")  # noqa: TRY004 - an internal bug
    user = conn.execute(select(t.users.c.id).where(t.users.c.user_id == effect.data.user_id)).scalar_one()
    which = t.members.c.group == group.id, t.members.c.user == user
    conn.execute(update(t.members).where(*which).values(admin=int(draft.admin)))
