"""Permission checks (authorization): whether a user is a member of a group, or looks after it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, exists, or_, select

from orbital_relay.core.refusals import check_member
from orbital_relay.model import Access, GroupId, Head, MembershipAtHead
from orbital_relay.store import tables as t
from orbital_relay.store.paging import among

HEAD = (t.groups.c.last_seq, t.groups.c.floor_seq, t.groups.c.last_stamp_ms, t.groups.c.last_hash)


def access(conn: Connection, user: int, group_id: str) -> Access:
    """Return what a user may do with a group."""
    return _membership(conn, user, group_id)[0]


def _membership(conn: Connection, user: int, group_id: str) -> tuple[Access, int]:
    row = conn.execute(
        select(t.groups.c.id, t.members.c.user)
        .outerjoin(t.members, (t.members.c.group == t.groups.c.id) & (t.members.c.user == user))
        .where(t.groups.c.group_id == group_id)
    ).one_or_none()
    if row is None:
        return Access.UNKNOWN, 0
    return (Access.STRANGER if row.user is None else Access.MEMBER), int(row.id)


def require_member(conn: Connection, user: int, group_id: str) -> int:
    """
    Return the row number of a group that the user is in.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the user is not in it.
    """
    found, group = _membership(conn, user, group_id)
    check_member(found)
    return group


def looks_after(conn: Connection, group: int, user: int) -> bool:
    """Return whether a user is the founder or an administrator of a group, by row numbers."""
    m = t.members.c
    admin = exists().where(m.group == group, m.user == user, m.admin == 1)
    either = select(t.groups.c.id).where(t.groups.c.id == group, or_(t.groups.c.creator == user, admin))
    return conn.execute(either).one_or_none() is not None


# Made once: when ten thousand clients come back, building a statement costs more than SQLite takes to run it.
_MEMBERSHIPS = select(t.groups.c.group_id, t.members.c.user, *HEAD).outerjoin(
    t.members, (t.members.c.group == t.groups.c.id) & (t.members.c.user == bindparam("user"))
)

MEMBERSHIP = _MEMBERSHIPS.where(t.groups.c.group_id == bindparam("group_id"))


def memberships(conn: Connection, user: int, group_ids: Collection[str]) -> dict[GroupId, MembershipAtHead]:
    """Return access and head for those groups that exist."""
    if len(group_ids) == 1:
        rows = conn.execute(MEMBERSHIP, {"user": user, "group_id": next(iter(group_ids))})
    else:
        rows = conn.execute(_MEMBERSHIPS.where(among(conn, group_ids)), {"user": user})
    return {
        row.group_id: MembershipAtHead(Access.STRANGER if row.user is None else Access.MEMBER, Head(*row[2:]))
        for row in rows
    }
