"""Memberships and resume points on SQLite: what each subscription reads, run by the driver alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, select

from orbital_relay.core.chain import prev_of
from orbital_relay.model import Access, GroupId, Head, MembershipAtHead, ResumePoint
from orbital_relay.store import tables as t
from orbital_relay.store.access import HEAD, MEMBERSHIP
from orbital_relay.store.log import END_OF_FRAME
from orbital_relay.store.prepared import Prepared

_MEMBERSHIP = Prepared(MEMBERSHIP)
_GROUP = Prepared(select(t.groups.c.id, *HEAD).where(t.groups.c.group_id == bindparam("group_id")))
_FOLLOWING = Prepared(select(t.events.c.stamp_ms, END_OF_FRAME).where(t.events.c.event_key == bindparam("event_key")))


def memberships(conn: Connection, user: int, group_ids: Collection[str]) -> dict[GroupId, MembershipAtHead]:
    """Return access and head for those groups that exist."""
    found: dict[GroupId, MembershipAtHead] = {}
    for group_id in group_ids:
        row = _MEMBERSHIP.one(conn, user=user, group_id=group_id)
        if row is not None:
            member = Access.STRANGER if row[1] is None else Access.MEMBER
            found[GroupId(row[0])] = MembershipAtHead(member, Head(*row[2:]))
    return found


def resume_points(conn: Connection, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
    """Return what is known at a position of each group."""
    found: dict[GroupId, ResumePoint] = {}
    for group_id, seq in positions.items():
        group = _GROUP.one(conn, group_id=group_id)
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
