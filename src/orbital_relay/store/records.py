"""Records of a group's roster, and its key messages."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from orbital_relay import wire
from orbital_relay.api.keys import RosterRecord, RosterRecords
from orbital_relay.model import Event, GroupId
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.log import LENGTH
from orbital_relay.store.paging import PAGE_BYTES, first_fitting


def records(conn: Connection, user: int, group_id: str, *, limit: int, offset: int) -> RosterRecords:
    """Answer `GET /api/groups/{group_id}/records`, in the order of the log."""
    group = require_member(conn, user, group_id)
    r = t.records.c
    keys = select(r.id, func.length(r.record)).where(r.group == group).order_by(r.seq)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(record_rows().where(r.id.in_(numbers)).order_by(r.seq))
    return RosterRecords(records=[record_of(row, group_id) for row in rows], has_more=has_more)


def record_rows() -> Select[Any]:
    """Select what `record_of` reads."""
    r = t.records.c
    named = func.coalesce(r.author_id, t.users.c.user_id).label("named")
    return select(t.records, named).join(t.users, t.users.c.id == r.author)


def record_of(row: Row[*tuple[Any, ...]], group_id: str) -> RosterRecord:
    """Return a record as lists have it."""
    return RosterRecord(
        record_id=row.record_id,
        group_id=group_id,
        author_id=row.named,
        record=row.record,
        created_at=wire.iso(row.created_ms),
        seq=row.seq,
    )


def key_messages(conn: Connection, user: int, group_id: str, *, after: int, limit: int) -> tuple[list[Event], bool]:
    """Return the group's `new_keys` events after a number, and whether more follow; also those below the floor."""
    group = require_member(conn, user, group_id)
    e = t.events.c
    within = t.KEYS_ONLY & (e.event_key > t.event_key(group, after)) & (e.event_key < t.event_key(group + 1, 0))
    keys = conn.execute(select(e.event_key, LENGTH).where(within).order_by(e.event_key).limit(limit + 1)).all()
    wanted: list[int] = []
    size = 0
    for key, length in keys[:limit]:
        size += int(length)
        if wanted and size > PAGE_BYTES:
            break
        wanted.append(int(key))
    rows = conn.execute(select(e.event_key, e.stamp_ms, e.frame).where(e.event_key.in_(wanted)).order_by(e.event_key))
    base = t.event_key(group, 0)
    found = [Event(GroupId(group_id), row.event_key - base, row.stamp_ms, bytes(row.frame)) for row in rows]
    return found, len(wanted) < len(keys)
