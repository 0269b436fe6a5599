"""Checks of the database and Redis: reachable, version, rights. Nothing is created or changed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from orbital_relay.config import DatabaseAddress, Postgres, Settings, SqliteFile, without_credentials
from orbital_relay.server.adapters import extra
from orbital_relay.server.doctor.finding import Finding
from orbital_relay.store import schema

WAIT_S: Final = 5.0
"""Longest wait for each question."""

LEAP_MS: Final = 60_000
"""A clock that is so far behind the newest event, or off another's, is wrong rather than imprecise."""

_QUERIES: Final = {
    "version": "SELECT max(version_num) FROM alembic_version",
    "stamp_ms": "SELECT max(last_stamp_ms) FROM groups",
    "heartbeat_ms": "SELECT max(value) FROM marks WHERE name = 'heartbeat_ms'",
}


class _Facts(msgspec.Struct):
    """What a database says of itself; None where it does not say."""

    about: str
    version: str | None = None
    stamp_ms: int | None = None
    heartbeat_ms: int | None = None


async def check_database(settings: Settings) -> list[Finding]:
    """Report whether the database answers, its place, size and version, and the clock against its newest stamp."""
    began_s = time.perf_counter()
    database = settings.database
    shown = str(database.path.absolute()) if isinstance(database, SqliteFile) else database.shown
    if isinstance(database, SqliteFile) and not database.path.exists():
        return [
            Finding(
                "database",
                "note",
                f"There is no database at {shown} yet.",
                "`orbital serve` makes it; if there should be one, name its folder with --data-dir.",
            )
        ]
    try:
        async with asyncio.timeout(WAIT_S):
            facts = await _ask(database)
    except Exception as exc:  # noqa: BLE001 - whatever a driver raises, it is the finding
        reason = str(exc).partition("\n")[0] or type(exc).__name__
        return [
            Finding(
                "database",
                "problem",
                f"The database {shown} cannot be read: {reason}.",
                "Check DATABASE_URL, that the database runs, its users and its firewall; for a file: orbital check",
            )
        ]
    waited_ms = (time.perf_counter() - began_s) * 1000
    answers = f"The database {shown} answers within {waited_ms:.0f} ms: {facts.about}."
    return [Finding("database", "ok", answers), *_of_version(facts), *_of_clock(facts)]


def _of_version(facts: _Facts) -> Iterator[Finding]:
    newest = schema.newest()
    if facts.version is None:
        yield Finding(
            "database", "note", "The database has no schema yet.", "`orbital serve` or `orbital migrate` makes it."
        )
    elif facts.version not in schema.revisions():
        text = f"The schema is at version {facts.version}; this Orbital knows versions up to {newest}."
        yield Finding("database", "problem", text, "Install the newer Orbital that wrote it.")
    elif facts.version != newest:
        text = f"The schema is at version {facts.version}, and this Orbital writes {newest}."
        yield Finding("database", "note", text, "The next start migrates it; back up first: orbital backup")


def _of_clock(facts: _Facts) -> Iterator[Finding]:
    now_ms = int(time.time() * 1000)
    newest = max(facts.stamp_ms or 0, facts.heartbeat_ms or 0)
    if newest - now_ms > LEAP_MS:
        text = f"This machine's clock is {(newest - now_ms) / 1000:.0f} s behind the newest stamp in the database."
        yield Finding("clock", "problem", text, "Set the clock, and let it be kept by NTP.")
    elif newest:
        yield Finding("clock", "ok", "The clock is not behind the newest stamp in the database.")


async def _ask(database: DatabaseAddress) -> _Facts:
    match database:
        case SqliteFile(path=path):
            return await asyncio.to_thread(_ask_sqlite, path)
        case Postgres(dsn=dsn):
            return await _ask_postgres(dsn)
        case _:
            assert_never(database)


def _ask_sqlite(path: Path) -> _Facts:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as connection:
        size = path.stat().st_size
        facts = _Facts(f"SQLite {sqlite3.sqlite_version}, {size / 2**20:.1f} MiB")
        # A file that is no database fails here, one without tables only below.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for name, query in _QUERIES.items():
            try:
                setattr(facts, name, connection.execute(query).fetchone()[0])
            except sqlite3.OperationalError:
                break
        return facts


async def _ask_postgres(dsn: str) -> _Facts:
    with extra("postgres"):
        import asyncpg  # noqa: PLC0415 - an extra

        from orbital_relay.store.postgres_session import connect  # noqa: PLC0415 - an extra
    connection = await connect(dsn, {"application_name": "orbital doctor"}, timeout=WAIT_S)
    try:
        version = await connection.fetchval("SHOW server_version")
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        facts = _Facts(f"PostgreSQL {version}, {size / 2**20:.1f} MiB")
        for name, query in _QUERIES.items():
            try:
                setattr(facts, name, await connection.fetchval(query))
            except asyncpg.UndefinedTableError:
                break
        return facts
    finally:
        await connection.close(timeout=WAIT_S)


async def check_redis(url: str | None) -> list[Finding]:
    """Report whether Redis answers, and what its user may not do."""
    if url is None:
        return []
    shown = without_credentials(url)
    with extra("redis"):
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra
    client: Any = Redis.from_url(
        url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, client_name="orbital-doctor"
    )
    try:
        try:
            await client.ping()
        except (RedisError, OSError) as exc:
            return [
                Finding(
                    "redis",
                    "problem",
                    f"Redis at {shown} does not answer: {exc}.",
                    "Check REDIS_URL, user and password, that Redis runs, and its firewall.",
                )
            ]
        return [finding async for finding in _of_rights(client, shown)]
    finally:
        await client.aclose()


async def _of_rights(client: Any, shown: str) -> AsyncIterator[Finding]:  # noqa: ANN401 - redis-py has no types here
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

    lacking = 0
    for name, level, ask, loss in (
        ("INFO", "note", _info, "whether it is a Cluster is detected by CLUSTER KEYSLOT instead"),
        ("PUBLISH and SUBSCRIBE on orbital:*", "problem", _publish, "events of other servers arrive seconds late"),
        (
            "reading and writing keys orbital:*",
            "problem",
            _keys,
            "limits, tickets and presence cover each server alone",
        ),
        ("EVAL", "problem", _script, "limits are counted by each server alone"),
    ):
        try:
            await ask(client)
        except (RedisError, OSError) as exc:
            lacking += 1
            yield Finding(
                "redis",
                "problem" if level == "problem" else "note",
                f"The user of Redis at {shown} lacks {name} ({exc}): {loss}.",
                "ACL SETUSER name ~orbital:* &orbital:* +@all -@dangerous +info",
            )
    if not lacking:
        yield Finding("redis", "ok", f"Redis at {shown} answers, and its user has the rights that Orbital needs.")


async def _info(client: Any) -> None:  # noqa: ANN401
    await client.info("server")


async def _publish(client: Any) -> None:  # noqa: ANN401
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("orbital:doctor")
        # The refusal of a subscription comes as the answer, not by the call.
        await pubsub.get_message(timeout=WAIT_S)
    await client.publish("orbital:doctor", b"")


async def _keys(client: Any) -> None:  # noqa: ANN401
    await client.set("orbital:doctor", b"1", px=1000)
    await client.get("orbital:doctor")
    await client.delete("orbital:doctor")


async def _script(client: Any) -> None:  # noqa: ANN401
    await client.eval("return redis.call('GET', KEYS[1])", 1, "orbital:doctor")
