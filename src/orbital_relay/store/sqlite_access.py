"""What each subscription reads of SQLite, run by the driver alone: memberships, resume points, pages of the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, select

from orbital_relay.core.chain import prev_of
from orbital_relay.model import Access, Event, GroupId, Head, LogRange, MembershipAtHead, Page, ResumePoint
from orbital_relay.store import access, log, log_ranges
from orbital_relay.store import tables as t
from orbital_relay.store.paging import PAGE_BYTES
from orbital_relay.store.prepared import Prepared

FEW: Final = 32
"""Groups up to which one statement for each, by the driver, takes less time than one by SQLAlchemy for all of them."""

_MEMBERSHIP = Prepared(access.MEMBERSHIP)
_FOLLOWING = Prepared(
    select(t.events.c.stamp_ms, log.END_OF_FRAME).where(t.events.c.event_key == bindparam("event_key"))
)


def memberships(conn: Connection, user: int, group_ids: Collection[str]) -> dict[GroupId, MembershipAtHead]:
    """Return access and head for those groups that exist."""
    if len(group_ids) > FEW:
        return access.memberships(conn, user, group_ids)
    found: dict[GroupId, MembershipAtHead] = {}
    for group_id in group_ids:
        row = _MEMBERSHIP.one(conn, user=user, group_id=group_id)
        if row is not None:
            member = Access.STRANGER if row[1] is None else Access.MEMBER
            found[GroupId(row[0])] = MembershipAtHead(member, Head(*row[2:]))
    return found


def resume_points(conn: Connection, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
    """Return what is known at a position of each group."""
    if len(positions) > FEW:
        return log.resume_points(conn, positions)
    found: dict[GroupId, ResumePoint] = {}
    for group_id, seq in positions.items():
        group = log.GROUP_HEAD.one(conn, group_id=group_id)
        if group is None:
            continue
        number, last_seq, floor_seq, _, last_hash = group
        if seq == last_seq:
            found[group_id] = ResumePoint(str(last_hash), None)
        elif floor_seq <= seq < last_seq:
            following = _FOLLOWING.one(conn, event_key=t.event_key(number, seq + 1))
            if following is not None:
                found[group_id] = ResumePoint(prev_of(bytes(following[1])), following[0])
    return found


def read_many(conn: Connection, ranges: Mapping[GroupId, LogRange]) -> dict[GroupId, Page]:
    """Read a page of each group; see `ports.Log.read_many`."""
    if len(ranges) > FEW:
        return log_ranges.read_many(conn, ranges)
    pages: dict[GroupId, Page] = {}
    wanted: list[tuple[GroupId, int, int, int]] = []
    for group_id, asked in ranges.items():
        group = log.GROUP_HEAD.one(conn, group_id=group_id)
        if group is None:
            continue
        head = Head(*group[1:])
        if asked.after < head.floor:
            continue
        pages[group_id] = Page([], head)
        last = min(asked.after + asked.limit, head.seq)
        if asked.after < last:
            wanted.append((group_id, group[0], asked.after, last))
    for group_id, number, after, last in wanted:
        pages[group_id].events.extend(_events(conn, group_id, number, after, last, PAGE_BYTES // len(wanted)))
    return pages


def _events(conn: Connection, group_id: GroupId, number: int, after: int, last: int, most_bytes: int) -> list[Event]:
    """Read events until they have so many bytes, one at least."""
    found: list[Event] = []
    size = 0
    bounds = {"after": t.event_key(number, after), "last": t.event_key(number, last), "most": last - after}
    rows = log.EVENTS.rows(conn, **bounds)
    for key, stamp_ms, frame in rows:
        found.append(Event(group_id, t.seq_of(key), stamp_ms, bytes(frame)))
        size += len(frame)
        if size >= most_bytes:
            break
    rows.close()
    return found
