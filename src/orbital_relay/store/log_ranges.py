"""Reads of many groups' logs at once: three statements for any number of groups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, TextClause, select, text

from orbital_relay.model import Event, GroupId, Head, LogRange, Page
from orbital_relay.store import tables as t
from orbital_relay.store.access import HEAD
from orbital_relay.store.paging import PAGE_BYTES, among, batched
from orbital_relay.store.tables import EVENT_KEY

# LIMIT cuts nothing, as numbers have no holes: with it PostgreSQL walks the index of each range.
_POSTGRES: Final = f"""
unnest(CAST(:after AS bigint[]), CAST(:last AS bigint[])) AS wanted (after, last) CROSS JOIN LATERAL (
    SELECT {EVENT_KEY}, stamp_ms, frame FROM events
    WHERE {EVENT_KEY} > wanted.after AND {EVENT_KEY} <= wanted.last
    ORDER BY {EVENT_KEY} LIMIT wanted.last - wanted.after
) AS found
"""

# SQLite has no LATERAL, and no arrays. A CROSS JOIN is carried out in the order in which it is written.
_SQLITE: Final = f"""
(SELECT json_extract(value, '$[0]') AS after, json_extract(value, '$[1]') AS last FROM json_each(:ranges)) AS wanted
CROSS JOIN events AS found ON found.{EVENT_KEY} > wanted.after AND found.{EVENT_KEY} <= wanted.last
"""

# The window has no column of the frame but its length, so that neither database reads a frame for it.
_LAST_FITTING: Final = f"""
SELECT after, max({EVENT_KEY}) FROM (
    SELECT wanted.after, found.{EVENT_KEY}, sum(length(found.frame)) OVER (
        PARTITION BY wanted.after ORDER BY found.{EVENT_KEY} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM {{ranges}}
) AS weighed WHERE coalesce(bytes_before, 0) < :bytes GROUP BY after
"""

_FRAMES: Final = f"SELECT wanted.after, found.{EVENT_KEY}, found.stamp_ms, found.frame FROM {{ranges}}"


def _for_each_dialect(statement: str) -> dict[str, TextClause]:
    return {
        "postgresql": text(statement.format(ranges=_POSTGRES)),
        "sqlite": text(statement.format(ranges=_SQLITE)),
    }


_LAST_FITTING_OF: Final = _for_each_dialect(_LAST_FITTING)
_FRAMES_OF: Final = _for_each_dialect(_FRAMES)


def read_many(conn: Connection, ranges: Mapping[GroupId, LogRange]) -> dict[GroupId, Page]:
    """Read a page of each group; see `ports.Log.read_many`."""
    pages: dict[GroupId, Page] = {}
    groups: dict[int, GroupId] = {}
    wanted: dict[int, int] = {}
    for some in batched(ranges, 500):
        for group_id, number, *columns in conn.execute(
            select(t.groups.c.group_id, t.groups.c.id, *HEAD).where(among(conn, some))
        ):
            asked, head = ranges[group_id], Head(*columns)
            if asked.after < head.floor:
                continue
            pages[GroupId(group_id)] = Page([], head)
            last = min(asked.after + asked.limit, head.seq)
            if asked.after < last:
                after = t.event_key(number, asked.after)
                groups[after] = GroupId(group_id)
                wanted[after] = t.event_key(number, last)
    if not wanted:
        return pages
    # Lengths first: frames that do not fit are not read.
    share = max(PAGE_BYTES // len(wanted), 1)
    fitting: dict[int, int] = {row[0]: row[1] for row in _execute(conn, _LAST_FITTING_OF, wanted, bytes=share)}
    rows = [(after, key, stamp_ms, bytes(frame)) for after, key, stamp_ms, frame in _execute(conn, _FRAMES_OF, fitting)]
    for after, key, stamp_ms, frame in sorted(rows, key=lambda row: row[1]):
        group_id = groups[after]
        pages[group_id].events.append(Event(group_id, t.seq_of(key), stamp_ms, frame))
    return pages


def _execute(
    conn: Connection, statements: Mapping[str, TextClause], wanted: Mapping[int, int], **others: int
) -> Iterable[Row[*tuple[Any, ...]]]:
    """Run a statement over ranges, each from the event after a key to another key."""
    dialect = conn.dialect.name
    if dialect == "postgresql":
        bound = {"after": list(wanted), "last": list(wanted.values()), **others}
    else:
        bound = {"ranges": json.dumps(list(wanted.items())), **others}
    return conn.execute(statements[dialect], bound).all()
