"""The log: heads, pages of events, resume points, retention. Each function runs in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, delete, func, select, update

from orbital_relay.core.chain import prev_of
from orbital_relay.core.refusals import no_group
from orbital_relay.errors import PositionLost
from orbital_relay.model import Event, GroupId, Head, Page, ResumePoint
from orbital_relay.store import tables as t
from orbital_relay.store.access import HEAD, require_member
from orbital_relay.store.paging import PAGE_BYTES, among, batched
from orbital_relay.store.prepared import Prepared

GROUP_HEAD = Prepared(select(t.groups.c.id, *HEAD).where(t.groups.c.group_id == bindparam("group_id")))

_EVENTS = (
    select(t.events.c.event_key, t.events.c.stamp_ms, t.events.c.frame)
    .where(t.events.c.event_key > bindparam("after"), t.events.c.event_key <= bindparam("last"))
    .order_by(t.events.c.event_key)
    .limit(bindparam("most"))
)

EVENTS = Prepared(_EVENTS)

# asyncpg hands over whole answers, so PostgreSQL has to know where to stop; it adds up lengths without reading frames.
LENGTH = func.length(t.events.c.frame)

_WEIGHED = _EVENTS.add_columns(
    (func.sum(LENGTH).over(order_by=t.events.c.event_key) - LENGTH).label("bytes_before")
).subquery()

_EVENTS_WITHIN = Prepared(
    select(_WEIGHED.c.event_key, _WEIGHED.c.stamp_ms, _WEIGHED.c.frame)
    .where(_WEIGHED.c.bytes_before < bindparam("bytes"))
    .order_by(_WEIGHED.c.event_key)
)


def heads(conn: Connection, group_ids: Collection[str]) -> dict[GroupId, Head]:
    """Return the heads of those groups that exist."""
    found: dict[GroupId, Head] = {}
    # A server may follow more groups than either database takes parameters (some 32,000).
    for some in batched(group_ids, 500):
        rows = conn.execute(select(t.groups.c.group_id, *HEAD).where(among(conn, some)))
        found.update({GroupId(group_id): Head(*head) for group_id, *head in rows})
    return found


def last_stamp_ms(conn: Connection) -> int:
    """Return the highest `server_timestamp` ever given."""
    return int(conn.execute(select(func.coalesce(func.max(t.groups.c.last_stamp_ms), 0))).scalar_one())


def read(conn: Connection, group_id: str, *, after: int, limit: int) -> Page:
    """Read events after a number, without checking the caller."""
    row = GROUP_HEAD.one(conn, group_id=group_id)
    if row is None:
        raise no_group()
    return _page(conn, row, group_id, after=after, limit=limit)


def events(conn: Connection, user: int, group_id: str, *, after: int, limit: int) -> Page:
    """Read events after a number, for a member."""
    require_member(conn, user, group_id)
    return read(conn, group_id, after=after, limit=limit)


def _page(conn: Connection, row: Sequence[Any], group_id: str, *, after: int, limit: int) -> Page:
    number, head = row[0], Head(*row[1:])
    if after < head.floor:
        raise PositionLost(oldest_seq=head.floor + 1)
    bounds = {"after": t.event_key(number, after), "last": t.event_key(number, head.seq), "most": limit}
    if conn.dialect.name == "postgresql":
        found = _EVENTS_WITHIN.rows(conn, **bounds, bytes=PAGE_BYTES)
    else:
        # SQLite reads a row when it is asked for it.
        found = EVENTS.rows(conn, **bounds)
    base = t.event_key(number, 0)
    page: list[Event] = []
    size = 0
    for key, stamp, frame in found:
        page.append(Event(GroupId(group_id), key - base, stamp, bytes(frame)))
        size += len(frame)
        if size >= PAGE_BYTES:
            found.close()
            break
    return Page(page, head)


# The end of a frame, where its `prev` stands: a frame may have 350 KB, and this needs 54 bytes of it.
END_OF_FRAME = func.substr(t.events.c.frame, LENGTH - 63, 64)


def resume_points(conn: Connection, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
    """Return what is known at a position of each group, by two statements for any number of groups."""
    groups = conn.execute(select(t.groups.c.group_id, t.groups.c.id, *HEAD).where(among(conn, positions))).all()
    found: dict[GroupId, ResumePoint] = {}
    keys: dict[int, GroupId] = {}
    for group_id, number, last_seq, floor_seq, _, last_hash in groups:
        seq = positions[group_id]
        if seq == last_seq:
            found[GroupId(group_id)] = ResumePoint(str(last_hash), None)
        elif floor_seq <= seq < last_seq:
            keys[t.event_key(number, seq + 1)] = GroupId(group_id)
    if keys:
        following = select(t.events.c.event_key, t.events.c.stamp_ms, END_OF_FRAME).where(_at_keys(conn, list(keys)))
        for key, stamp_ms, end in conn.execute(following):
            found[keys[key]] = ResumePoint(prev_of(bytes(end)), stamp_ms)
    return found


def _at_keys(conn: Connection, keys: list[int]) -> ColumnElement[bool]:
    """Match events by their keys; on PostgreSQL by one statement for any number, planned once."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import ARRAY  # noqa: PLC0415 - only where it is spoken

        return t.events.c.event_key == func.any(bindparam(None, keys, type_=ARRAY(BigInteger)))
    return t.events.c.event_key.in_(keys)


def prune(conn: Connection, *, before_ms: int, limit: int, keys_before_ms: int | None = None) -> int:
    """
    Drop up to `limit` events with stamps below `before_ms`; a group's log loses only its beginning.

    Key messages that are not below `keys_before_ms` leave the log too, and their rows stay.
    """
    keys_before_ms = before_ms if keys_before_ms is None else keys_before_ms
    kept = t.KEYS_ONLY & (t.events.c.stamp_ms >= keys_before_ms)
    dropped = 0
    # The oldest event that a group keeps has the number after its floor, so one look-up by key is enough.
    oldest = t.events.alias()
    candidates = conn.execute(
        select(t.groups.c.id, t.groups.c.floor_seq)
        .join(oldest, oldest.c.event_key == t.groups.c.id * (1 << t.SEQ_BITS) + t.groups.c.floor_seq + 1)
        .where(oldest.c.stamp_ms < before_ms)
        .order_by(t.groups.c.id)
        .limit(limit)
        .with_for_update(of=t.groups)
    ).all()
    for group, floor in candidates:
        if dropped >= limit:
            break
        window = (
            select(t.events.c.event_key, t.events.c.stamp_ms)
            .where(t.events.c.event_key > t.event_key(group, floor), t.events.c.event_key < t.event_key(group + 1, 0))
            .order_by(t.events.c.event_key)
            .limit(limit - dropped)
            .subquery()
        )
        last = conn.execute(select(func.max(window.c.event_key)).where(window.c.stamp_ms < before_ms)).scalar()
        if last is None:
            continue
        before = t.event_key(group, floor)
        conn.execute(delete(t.events).where(t.events.c.event_key > before, t.events.c.event_key <= last, ~kept))
        floor_seq = t.seq_of(last)
        conn.execute(update(t.groups).where(t.groups.c.id == group).values(floor_seq=floor_seq))
        gone = t.deleted_content.c
        conn.execute(delete(t.deleted_content).where(gone.group == group, gone.seq <= floor_seq))
        dropped += last - before
    outlived = (
        select(t.events.c.event_key)
        .join(t.groups, t.groups.c.id == t.events.c.group)
        .where(
            t.KEYS_ONLY,
            t.events.c.stamp_ms < keys_before_ms,
            t.events.c.event_key <= t.groups.c.id * (1 << t.SEQ_BITS) + t.groups.c.floor_seq,
        )
        .limit(limit)
    )
    conn.execute(delete(t.events).where(t.events.c.event_key.in_(conn.execute(outlived).scalars().all())))
    return dropped
