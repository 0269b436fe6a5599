"""Marks: values about the database itself, such as the last time of its servers' clock. Not part of a backup."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import Connection, case, delete, insert, literal, select, text, update

from orbital_relay.store import tables as t

HEARTBEAT: Final = "heartbeat_ms"
ACCEPTED: Final = "clock_accepted_ms"
REWINDS: Final = "rewinds"
REWOUND: Final = "rewound_ms"
PROBE: Final = "probe"

_DATABASE_MS: Final = text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")


class ClockMarks(msgspec.Struct, frozen=True):
    """
    What the database knows of time.

    Attributes:
        heartbeat_ms: The trusted time when a server last wrote it; None before the first.
        accepted_ms: The clock that an operator last accepted; 0 when none was.
        database_ms: The database server's own clock; None where the database is a file.
    """

    heartbeat_ms: int | None
    accepted_ms: int
    database_ms: int | None


class Rewinds(msgspec.Struct, frozen=True):
    """How often servers found that the log of a group had gone back, and when last (milliseconds since the epoch)."""

    count: int
    last_ms: int


def clock(conn: Connection) -> ClockMarks:
    """Return the marks of time, and the database's clock."""
    found = _values(conn, HEARTBEAT, ACCEPTED)
    database_ms = int(conn.execute(_DATABASE_MS).scalar_one()) if conn.dialect.name == "postgresql" else None
    return ClockMarks(found.get(HEARTBEAT), found.get(ACCEPTED, 0), database_ms)


def beat(conn: Connection, *, heartbeat_ms: int, lower: bool) -> None:
    """Note the trusted time; servers that share the database only ever raise it, unless `lower`."""
    if lower:
        _set(conn, HEARTBEAT, heartbeat_ms)
    else:
        _raise(conn, HEARTBEAT, heartbeat_ms)


def accept_clock(conn: Connection, *, wall_ms: int) -> None:
    """Note that an operator says that the clock is right."""
    _set(conn, HEARTBEAT, wall_ms)
    _set(conn, ACCEPTED, wall_ms)


def note_rewind(conn: Connection, *, at_ms: int) -> None:
    """Note that a group's log was found to have gone back."""
    done = conn.execute(update(t.marks).where(t.marks.c.name == REWINDS).values(value=t.marks.c.value + 1))
    if not done.rowcount:
        conn.execute(insert(t.marks).values(name=REWINDS, value=1))
    _set(conn, REWOUND, at_ms)


def rewinds(conn: Connection) -> Rewinds | None:
    """Return what was noted of logs that went back; None when none did."""
    found = _values(conn, REWINDS, REWOUND)
    return Rewinds(found[REWINDS], found.get(REWOUND, 0)) if REWINDS in found else None


def probe(conn: Connection) -> None:
    """Write a little, to find out whether anything can be stored."""
    _set(conn, PROBE, _values(conn, PROBE).get(PROBE, 0) + 1)


def _values(conn: Connection, *names: str) -> dict[str, int]:
    rows = conn.execute(select(t.marks.c.name, t.marks.c.value).where(t.marks.c.name.in_(names)))
    return {str(name): int(value) for name, value in rows}


def _set(conn: Connection, name: str, value: int) -> None:
    conn.execute(delete(t.marks).where(t.marks.c.name == name))
    conn.execute(insert(t.marks).values(name=name, value=value))


def _raise(conn: Connection, name: str, value: int) -> None:
    m = t.marks.c
    higher = case((m.value < value, literal(value)), else_=m.value)
    if not conn.execute(update(t.marks).where(m.name == name).values(value=higher)).rowcount:
        conn.execute(insert(t.marks).values(name=name, value=value))
