"""Connections to PostgreSQL: connection string, settings that survive a pooler (PgBouncer), shared sessions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode

import asyncpg

from orbital_relay.errors import DatabaseRefused

_NOT_OURS: Final = (
    *("channel_binding", "connect_timeout", "gssencmode", "keepalives", "keepalives_idle"),
    *("keepalives_interval", "keepalives_count", "tcp_user_timeout"),
)
"""Parameters of libpq that the driver does not know and would pass on as settings of the server."""

SHARED: Final = "ORB01"
"""SQLSTATE that a connection raises when it sees what was set on another one."""


def driver_dsn(dsn: str) -> str:
    """
    Return an address of libpq's kind as the driver takes it.

    Of several hosts the one that accepts writes is used, unless the address says otherwise.

    Raises:
        DatabaseRefused: If it asks for what the driver cannot do.
    """
    address, _, query = dsn.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if given.get("channel_binding") == "require":
        raise DatabaseRefused(
            "channel_binding=require is not supported by the PostgreSQL driver. Use sslmode=verify-full, which "
            "authenticates the server by its certificate, and leave channel_binding out."
        )
    kept = {name: value for name, value in given.items() if name not in _NOT_OURS}
    hosts = kept.get("host") or address.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if "," in hosts:
        kept.setdefault("target_session_attrs", "read-write")
    # A path in `host` is a socket's folder: its slashes stay.
    return f"{address}?{urlencode(kept, safe='/,:')}" if kept else address


def connect_timeout_s(dsn: str, *, default: float) -> float:
    """Return the address's own `connect_timeout` in seconds, never more than the default."""
    given = dict(parse_qsl(dsn.partition("?")[2])).get("connect_timeout", "")
    return min(float(given), default) if given.isdigit() and int(given) > 0 else default


async def connect(dsn: str, settings: Mapping[str, str], **options: float) -> asyncpg.Connection:
    """
    Connect, and set what a session needs.

    By SET and not as startup parameters, which PgBouncer refuses.
    """
    raw = await asyncpg.connect(driver_dsn(dsn), **options)
    try:
        await raw.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))
    except BaseException:
        raw.terminate()
        raise
    return raw


async def keep_settings(_raw: object) -> None:
    """Do nothing when a connection goes back to its pool: the driver's own reset would drop the settings."""


async def refuse_shared_sessions(dsn: str, *, timeout: float) -> None:
    """
    Refuse a pooler that hands one session of PostgreSQL to several connections: settings and statements would be lost.

    Raises:
        DatabaseRefused: If what is set on one connection is seen on another one.
    """
    mark = secrets.token_hex(8)
    one = await asyncpg.connect(driver_dsn(dsn), timeout=timeout, statement_cache_size=0)
    two = None
    try:
        two = await asyncpg.connect(driver_dsn(dsn), timeout=timeout, statement_cache_size=0)
        await one.execute(f"SET orbital.session = '{mark}'")
        await two.execute(
            f"DO $$ BEGIN IF current_setting('orbital.session', true) = '{mark}' THEN "
            f"RAISE EXCEPTION 'shared' USING ERRCODE = '{SHARED}'; END IF; END $$"
        )
        await one.execute("RESET orbital.session")
    except asyncpg.PostgresError as exc:
        if exc.sqlstate != SHARED:
            raise
        await one.execute("RESET orbital.session")
        raise DatabaseRefused(
            "The pooler in front of this database shares one session among several connections (pool_mode "
            "transaction or statement). Orbital needs sessions of its own: set pool_mode = session for this database "
            "in PgBouncer, or connect to PostgreSQL directly."
        ) from exc
    finally:
        one.terminate()
        if two is not None:
            two.terminate()
