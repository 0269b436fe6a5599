"""Memberships and resume points on SQLite: what each subscription reads, run by the driver alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.dialects.sqlite import dialect

from orbital_relay.core.chain import prev_of
from orbital_relay.model import Access, GroupId, Head, MembershipAtHead, ResumePoint
from orbital_relay.store import tables as t
from orbital_relay.store.access import HEAD, MEMBERSHIP
from orbital_relay.store.log import END_OF_FRAME


class _Statement:
    """
    A statement that is compiled once, and run without SQLAlchemy.

    The row of a membership takes 11 µs so, and 240 µs by `Connection.execute`, most of it with the interpreter's lock.
    """

    __slots__ = ("_fixed", "_sql")

    def __init__(self, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=dialect(paramstyle="named"))
        self._sql = str(compiled)
        self._fixed = dict(compiled.params)

    def one(self, raw: sqlite3.Connection, **values: object) -> tuple[Any, ...] | None:
        """Return the first row, None if there is none."""
        row: tuple[Any, ...] | None = raw.execute(self._sql, self._fixed | values).fetchone()
        return row


_MEMBERSHIP = _Statement(MEMBERSHIP)
_GROUP = _Statement(select(t.groups.c.id, *HEAD).where(t.groups.c.group_id == bindparam("group_id")))
_FOLLOWING = _Statement(select(t.events.c.stamp_ms, END_OF_FRAME).where(t.events.c.event_key == bindparam("event_key")))


def memberships(conn: Connection, user: int, group_ids: Collection[str]) -> dict[GroupId, MembershipAtHead]:
    """Return access and head for those groups that exist."""
    raw = _driver(conn)
    found: dict[GroupId, MembershipAtHead] = {}
    for group_id in group_ids:
        row = _MEMBERSHIP.one(raw, user=user, group_id=group_id)
        if row is not None:
            member = Access.STRANGER if row[1] is None else Access.MEMBER
            found[GroupId(row[0])] = MembershipAtHead(member, Head(*row[2:]))
    return found


def resume_points(conn: Connection, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
    """Return what is known at a position of each group."""
    raw = _driver(conn)
    found: dict[GroupId, ResumePoint] = {}
    for group_id, seq in positions.items():
        group = _GROUP.one(raw, group_id=group_id)
        if group is None:
            continue
        number, last_seq, floor_seq, _, last_hash = group
        if seq == last_seq:
            found[group_id] = ResumePoint(str(last_hash), None)
        elif floor_seq <= seq < last_seq:
            following = _FOLLOWING.one(raw, event_key=t.event_key(number, seq + 1))
            if following is not None:
                found[group_id] = ResumePoint(prev_of(bytes(following[1])), following[0])
    return found


def _driver(conn: Connection) -> sqlite3.Connection:
    raw = conn.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("these statements are SQLite's")
    return raw
