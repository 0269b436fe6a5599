"""A user's messages over all groups, in timestamp order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, bindparam, select, true

from orbital_relay.model import Event, GroupId
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.log import LENGTH
from orbital_relay.store.paging import PAGE_BYTES


@cache
def _first_messages(dialect: str, *, one_group: bool) -> Select[Any]:
    """Make the query for a user's first messages after a stamp: of each group no more are looked at than are wanted."""
    mine_of = (
        select(t.groups.c.id, t.groups.c.group_id)
        .join(t.members, t.members.c.group == t.groups.c.id)
        # A group whose head is no later has no message to return.
        .where(t.members.c.user == bindparam("user"), t.groups.c.last_stamp_ms > bindparam("since"))
    )
    if one_group:
        mine_of = mine_of.where(t.groups.c.group_id == bindparam("group_id"))
    mine = mine_of.subquery("mine")
    of_one = (
        select(t.events.c.stamp_ms, t.events.c.event_key)
        .where(t.events.c.group == mine.c.id, t.MESSAGES_ONLY, t.events.c.stamp_ms > bindparam("since"))
        .order_by(t.events.c.stamp_ms, t.events.c.event_key)
        .limit(bindparam("most"))
    )
    found: FromClause
    if dialect == "postgresql":
        found = of_one.lateral("found")
        both = mine.join(found, true())
    else:
        # SQLite has no LATERAL: what a group's own query finds is looked up once more, by its key.
        found = t.events.alias("found")
        both = mine.join(found, found.c.event_key.in_(of_one.with_only_columns(t.events.c.event_key).correlate(mine)))
    return (
        select(found.c.stamp_ms, found.c.event_key, mine.c.group_id)
        .select_from(both)
        .order_by(found.c.stamp_ms, found.c.event_key)
        .limit(bindparam("most"))
    )


def messages(
    conn: Connection, user: int, *, since_ms: int, limit: int, group_id: str | None
) -> tuple[list[Event], bool]:
    """
    Return messages with stamps above `since_ms`, oldest first, never ending between two of one stamp.

    There are fewer than `limit` when their frames fill a page before. Keys alone are sorted, a bounded number of each
    group; frames are fetched for those that are returned.
    """
    one: dict[str, Any] = {}
    if group_id is not None:
        require_member(conn, user, group_id)
        one = {"group_id": group_id}
    first = _first_messages(conn.dialect.name, one_group=bool(one))
    keys = _keys(conn.execute(first, {"user": user, "since": since_ms, "most": limit + 1, **one}))
    more = len(keys) > limit
    if more:
        last = keys[limit - 1][0]
        # Several servers may give one stamp to events of different groups: the page has all that bear its last.
        cut = keys[limit][0] == last
        keys = keys[:limit]
        if cut:
            mine = _messages_of(user, group_id)
            keys = [key for key in keys if key[0] < last]
            keys += _keys(conn.execute(mine.where(t.events.c.stamp_ms == last).order_by(t.events.c.event_key)))
            more = conn.execute(mine.where(t.events.c.stamp_ms > last).limit(1)).first() is not None
    fitting = _fitting(conn, keys)
    more = more or len(fitting) < len(keys)
    frames = {key: bytes(frame) for key, frame in _of_events(conn, t.events.c.frame, fitting)}
    return [Event(GroupId(name), t.seq_of(key), stamp, frames[key]) for stamp, key, name in fitting], more


_Key: TypeAlias = tuple[int, int, str]
"""The sort key of a message: its stamp, its event key, its group's id. They sort in the order of messages."""


def _keys(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[_Key]:
    return [(stamp, key, group_id) for stamp, key, group_id in rows]


def _messages_of(user: int, group_id: str | None) -> Select[Any]:
    """Select the keys of a user's messages, in no order."""
    found = (
        select(t.events.c.stamp_ms, t.events.c.event_key, t.groups.c.group_id)
        .select_from(t.members)
        .join(t.groups, t.groups.c.id == t.members.c.group)
        .join(t.events, t.events.c.group == t.groups.c.id)
        .where(t.members.c.user == user, t.MESSAGES_ONLY)
    )
    return found if group_id is None else found.where(t.groups.c.group_id == group_id)


def _fitting(conn: Connection, keys: list[_Key]) -> list[_Key]:
    """Return the first of those keys, up to where their frames fill a page; never ending between two of one stamp."""
    lengths: dict[int, int] = dict(_of_events(conn, LENGTH, keys))
    size = 0
    for index, (stamp, key, _) in enumerate(keys):
        if size >= PAGE_BYTES and stamp != keys[index - 1][0]:
            return keys[:index]
        size += lengths[key]
    return keys


def _of_events(conn: Connection, column: ColumnElement[Any], keys: list[_Key]) -> Iterator[tuple[int, Any]]:
    """Yield event key and column of the events with those keys."""
    for start in range(0, len(keys), 500):
        wanted = [key for _, key, _ in keys[start : start + 500]]
        for row in conn.execute(select(t.events.c.event_key, column).where(t.events.c.event_key.in_(wanted))):
            yield row[0], row[1]
