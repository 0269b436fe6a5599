"""What a user can read, in pages bounded in bytes that begin behind the last entry of the page before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    Table,
    case,
    func,
    literal_column,
    select,
)

from orbital_relay import wire
from orbital_relay.api.exports import (
    ExportedAccount,
    ExportedGroup,
    ExportedMedium,
    ExportedMember,
    ExportedSubscription,
    ExportPart,
)
from orbital_relay.api.fields import as_sent
from orbital_relay.api.push import Mute
from orbital_relay.ports.exports import ExportCursor, ExportPage
from orbital_relay.store import tables as t
from orbital_relay.store import thread_annotations as notes
from orbital_relay.store.access import require_member
from orbital_relay.store.groups import MEMBER_COLUMNS, MEMBER_LENGTH, member_of, role_of
from orbital_relay.store.log import LENGTH
from orbital_relay.store.media import COMPLETE, EXPIRED, medium_fields
from orbital_relay.store.records import record_of, record_rows
from orbital_relay.store.threads import (
    REPLY_LENGTH,
    reply_of,
    reply_rows,
    thread_keys,
    thread_of,
    thread_rows,
)

EXPORT_PAGE_BYTES: Final = 1024 * 1024
"""Bytes at which a page ends: an export takes minutes on a slow line, and several run at once."""
MOST: Final = 500
"""Most entries of a page."""
_ENTRY_BYTES: Final = 400

EVENT_KINDS: Final = frozenset(
    {"new_message", "new_keys", "member_joined", "member_left", "role_changed", "identity_changed"}
)
"""Events whose content is in the log alone; that of the others is in rows, or was deleted."""

_Reader: TypeAlias = Callable[[Connection, int, str, ExportCursor, int], ExportPage]
_u, _g, _m, _th, _r, _md, _e = (
    t.users.c,
    t.groups.c,
    t.members.c,
    t.threads.c,
    t.replies.c,
    t.media.c,
    t.events.c,
)
_NOTHING: Final = literal_column("0", Integer)


def export_account(conn: Connection, user: int) -> ExportedAccount | None:
    """Return the account; None when there is none."""
    row = conn.execute(select(t.users).where(_u.id == user)).one_or_none()
    if row is None:
        return None
    return ExportedAccount(
        user_id=row.user_id,
        username=row.username,
        admin=row.admin_ms is not None,
        has_password=row.password_hash is not None,
        display_name=row.display_name,
        public_key=as_sent(row.public_key.encode()),
        created_at=wire.iso(row.created_ms),
    )


def export_subscriptions(conn: Connection, user: int) -> list[ExportedSubscription]:
    """Return the push subscriptions of a user, without secrets."""
    s = t.push_subscriptions.c
    columns = (s.subscription_id, s.endpoint, s.device_id, s.preferences, s.stored_ms)
    rows = conn.execute(select(*columns).where(s.user == user).order_by(s.id))
    return [
        ExportedSubscription(
            subscription_id=row.subscription_id,
            service="{0.scheme}://{0.netloc}".format(urlsplit(row.endpoint)),
            device_id=row.device_id,
            mute=msgspec.json.decode(row.preferences, type=Mute),
            stored_at=wire.iso(row.stored_ms),
        )
        for row in rows
    ]


def export_group(conn: Connection, user: int, *, after: int) -> tuple[int, ExportedGroup] | None:
    """Return the next group of a user, with its row number."""
    row = conn.execute(
        select(t.groups, _m.encrypted_group_key, _m.joined_ms, _m.admin)
        .join(t.members, _m.group == _g.id)
        .where(_m.user == user, _g.id > after)
        .order_by(_g.id)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return int(row.id), ExportedGroup(
        group_id=row.group_id,
        encrypted_name=row.encrypted_name,
        encrypted_group_key=row.encrypted_group_key,
        role=role_of(creator=row.creator == user, admin=row.admin == 1),
        created_at=wire.iso(row.created_ms),
        joined_at=wire.iso(row.joined_ms),
        last_seq=row.last_seq,
    )


def export_page(
    conn: Connection, user: int, part: ExportPart, group_id: str, *, after: ExportCursor, now_ms: int
) -> ExportPage:
    """Return a page of a part of a group, for a member of it."""
    return _READERS[part](conn, require_member(conn, user, group_id), group_id, after, now_ms)


# Chapter: the parts of a group


def _members(conn: Connection, group: int, group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    joined = t.users.join(t.members, _m.user == _u.id)
    here = _m.group == group
    keys = select(_u.id, MEMBER_LENGTH, _m.joined_seq, _NOTHING).select_from(joined)
    found, rest = _fit(conn, keys.where(here, _m.joined_seq > after[0]).order_by(_m.joined_seq))
    creator = conn.execute(select(_g.creator).where(_g.id == group)).scalar_one()
    rows = select(*MEMBER_COLUMNS).select_from(joined).where(here, _u.id.in_(found)).order_by(_m.joined_seq)
    members = (member_of(row, creator=creator) for row in conn.execute(rows))
    return ExportPage([ExportedMember(**msgspec.structs.asdict(each), group_id=group_id) for each in members], rest)


def _records(conn: Connection, group: int, group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    r = t.records.c
    keys = select(r.id, func.length(r.record), r.seq, _NOTHING)
    found, rest = _fit(conn, keys.where(r.group == group, r.seq > after[0]).order_by(r.seq))
    rows = conn.execute(record_rows().where(r.id.in_(found)).order_by(r.seq))
    return ExportPage([record_of(row, group_id) for row in rows], rest)


def _threads(conn: Connection, group: int, _group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    keys = thread_keys().add_columns(_th.seq, _NOTHING)
    found, rest = _fit(conn, keys.where(_th.group == group, t.LIVE_THREADS, _th.seq > after[0]).order_by(_th.seq))
    rows = conn.execute(thread_rows().where(_th.id.in_(found)).order_by(_th.seq))
    return ExportPage([thread_of(row) for row in rows], rest)


def _replies(conn: Connection, group: int, _group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    found, rest = _fit_in_threads(conn, t.replies, REPLY_LENGTH, group, after)
    rows = conn.execute(reply_rows().where(_r.id.in_(found)).order_by(_th.seq, _r.seq))
    return ExportPage([reply_of(row) for row in rows], rest)


def _annotations(conn: Connection, group: int, _group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    a = t.thread_annotations.c
    found, rest = _fit_in_threads(conn, t.thread_annotations, notes.LENGTH, group, after)
    rows = conn.execute(notes.annotation_rows().where(a.id.in_(found)).order_by(_th.seq, a.seq))
    return ExportPage([notes.annotation_of(row) for row in rows], rest)


def _media(conn: Connection, group: int, group_id: str, after: ExportCursor, now_ms: int) -> ExportPage:
    stored = (_md.group == group, _md.state.in_((COMPLETE, EXPIRED)))
    keys = select(_md.id, func.length(_md.encrypted_metadata), _md.seq, _NOTHING)
    found, rest = _fit(conn, keys.where(*stored, _md.seq > after[0]).order_by(_md.seq))
    there = case(((_md.state == COMPLETE) & (_md.expires_ms > now_ms), 1), else_=0).label("there")
    rows = conn.execute(
        select(t.media, _th.thread_id, _u.user_id.label("author_id"), _u.username.label("author_username"), there)
        .join(t.threads, _th.id == _md.thread)
        .join(t.users, _u.id == _md.uploader)
        .where(_md.id.in_(found))
        .order_by(_md.seq)
    )
    return ExportPage([_medium(row, group_id) for row in rows], rest)


def _medium(row: Row[*tuple[Any, ...]], group_id: str) -> ExportedMedium:
    return ExportedMedium(
        **medium_fields(row),
        thread_id=row.thread_id,
        group_id=group_id,
        encryption_iv=row.encryption_iv,
        download_path=f"/api/media/{row.media_id}/download" if row.there else None,
    )


def _events(conn: Connection, group: int, _group_id: str, after: ExportCursor, _now_ms: int) -> ExportPage:
    beyond = max(after[0], t.event_key(group, 0))
    keys = select(_e.event_key, LENGTH, _e.event_key, _NOTHING)
    within = (_e.event_key > beyond, _e.event_key < t.event_key(group + 1, 0))
    found, rest = _fit(conn, keys.where(*within).order_by(_e.event_key))
    rows = conn.execute(select(_e.message, _e.frame).where(_e.event_key.in_(found)).order_by(_e.event_key))
    return ExportPage([msgspec.Raw(row.frame) for row in rows if _is_exported(row)], rest)


def _is_exported(row: Row[*tuple[Any, ...]]) -> bool:
    """Return whether an event is exported; a message that was deleted has lost its mark."""
    kind = wire.kind_of(bytes(row.frame))
    return kind in EVENT_KINDS and row.message == t.MESSAGE_MARKS.get(kind, 0)


_READERS: Final[dict[ExportPart, _Reader]] = {
    "member": _members,
    "record": _records,
    "thread": _threads,
    "reply": _replies,
    "annotation": _annotations,
    "medium": _media,
    "event": _events,
}


# Chapter: pages


def _fit(conn: Connection, keys: Select[Any]) -> tuple[list[int], ExportCursor | None]:
    """Return the rows of a page by their numbers, and where the next page begins; None at the end."""
    return _fitting(conn.execute(keys.limit(MOST + 1)).all())


def _fit_in_threads(
    conn: Connection,
    table: Table,
    length: ColumnElement[int],
    group: int,
    after: ExportCursor,
) -> tuple[list[int], ExportCursor | None]:
    """Return a page of what hangs on the threads of a group, thread by thread: by their two indexes."""
    seq: Column[int] = table.c.seq
    keys = select(table.c.id, length, _th.seq, seq).join(t.threads, (_th.id == table.c.thread) & t.LIVE_THREADS)
    here = keys.where(_th.group == group, _th.seq == after[0], seq > after[1]).order_by(seq).limit(MOST + 1)
    rows = list(conn.execute(here).all())
    if len(rows) <= MOST:
        behind = keys.where(_th.group == group, _th.seq > after[0]).order_by(_th.seq, seq)
        rows += conn.execute(behind.limit(MOST + 1 - len(rows))).all()
    return _fitting(rows)


def _fitting(rows: Sequence[Row[*tuple[Any, ...]]]) -> tuple[list[int], ExportCursor | None]:
    """Cut rows of number, length and cursor where they fill a page."""
    numbers: list[int] = []
    size = 0
    for number, length, *_ in rows[:MOST]:
        size += int(length) + _ENTRY_BYTES
        if numbers and size > EXPORT_PAGE_BYTES:
            break
        numbers.append(int(number))
    if len(numbers) == len(rows):
        return numbers, None
    return numbers, (int(rows[len(numbers) - 1][2]), int(rows[len(numbers) - 1][3]))
