"""The store on PostgreSQL, shared by any number of servers: connection pool, statement and lock timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from orbital_relay.core.refusals import bug_in_store
from orbital_relay.errors import Busy, DatabaseRefused, OrbitalError, Unavailable, ValidationFailed
from orbital_relay.model import AnyDraft, PostMessage, PostReply, PostThread
from orbital_relay.ports import Appended, MediaRows, Store
from orbital_relay.store import schema
from orbital_relay.store.append.postgres import BulkDraft, PostgresAppender, append_one
from orbital_relay.store.append.retries import KeyTaken, ThreadDeleted
from orbital_relay.store.postgres_errors import (
    DRIVER,
    cause_of,
    is_away,
    is_retryable,
    sqlstate_of,
    was_stale,
    without_credentials,
    words_of,
)
from orbital_relay.store.postgres_session import connect, connect_timeout_s, keep_settings, refuse_shared_sessions
from orbital_relay.store.sql import SqlStore

T = TypeVar("T")
log = logging.getLogger("orbital.store")

READERS: Final = 6
"""Connections of a server that read; with those that write 10 of PostgreSQL's 100 by default."""

WRITERS: Final = 2
"""Connections for rare writes: memberships, accounts, pruning."""

APPENDERS: Final = 2
"""Connections for posts: one at work, one that takes over at once when the first was lost."""

CONNECT_S: Final = 3.0
"""Longest wait for a new connection. Who asks meanwhile gets a 503 and comes back; waiting longer only piles up."""

LOCK_S: Final = 5.0
"""Longest wait for another transaction's row lock; those of Orbital hold theirs for milliseconds."""

STATEMENT_S: Final = 10.0
"""Longest run of one statement."""

IDLE_S: Final = 10.0
"""After this PostgreSQL ends a transaction whose server has stopped talking, and lets its row locks go."""

ANSWER_S: Final = 15.0
"""Longest wait for the database's answer, whatever became of the network; above all of the others."""

PATIENCE_S: Final = 15.0
"""How long a starting server tries to reach a database that is starting too."""

TRIES: Final = 5
"""How often a transaction is done that another one made void; more than two in a row were not seen."""

WRITING: Final = "orbital-write"
"""How connections that append call themselves; what they are at is looked up by it."""

# A second's grace: a transaction may have begun and not be shown yet, on a machine that is busy with others.
_LOW_WATERMARK_MS: Final = text(
    "SELECT floor(extract(epoch FROM least(transaction_timestamp() - interval '1 second', min(xact_start))) * 1000) "
    "::bigint - 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = :writing"
).bindparams(writing=WRITING)
"""The moment before the oldest transaction that may still append: no stamp is below the beginning of its own."""

_MIGRATION_LOCK: Final = 0x6F72_6269_7461_6C01
"""Number of the advisory lock under which one server at a time looks at the schema: "orbital" and 1."""


class PostgresStore(SqlStore):
    """
    The log in a PostgreSQL that other servers write too.

    A commit returns when PostgreSQL has it on its disk (`synchronous_commit`). When the database cannot be reached
    every method raises `Unavailable` soon, and works again by itself when it is back. It never holds a transaction open
    while it waits for anything but the database.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._shown = without_credentials(dsn)
        self._settings: dict[str, str] = {
            "lock_timeout": _ms(LOCK_S),
            "statement_timeout": _ms(STATEMENT_S),
            "idle_in_transaction_session_timeout": _ms(IDLE_S),
            # A compiled plan pays for queries over millions of rows, and costs ours 20 ms now and then.
            "jit": "off",
        }
        # One statement after the other sees the same moment, as one statement does.
        self._reader = self._engine(self._connect_to_read, READERS, "REPEATABLE READ").execution_options(
            postgresql_readonly=True
        )
        self._writer = self._engine(self._connect_to_write, WRITERS, "READ COMMITTED")
        self._appender = PostgresAppender()
        self._append_pool: Any = None
        self._away = False
        # The last write failed since the database could not store it: full, read-only, unreachable.
        self._stuck = False

    @classmethod
    async def open(cls, dsn: str, *, patience_s: float = PATIENCE_S) -> PostgresStore:
        """
        Connect, and bring the database to this program's schema; of several servers that start at once, one does.

        Args:
            dsn: `postgresql://user:password@host:port/database`, with libpq's parameters (`sslmode`, …) if need be.
            patience_s: How long to go on trying to reach it.

        Raises:
            DatabaseRefused: If it is newer than the program, or cannot be reached or used.
        """
        store = cls(dsn)
        try:
            await store._prepare(patience_s)
        except BaseException:
            await store.close()
            raise
        return store

    async def _prepare(self, patience_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            try:
                await self._migrate()
                break
            except (SQLAlchemyError, *DRIVER) as exc:
                cause = cause_of(exc)
                if not is_away(cause) or loop.time() >= until:
                    raise DatabaseRefused(f"The database {self._shown} cannot be used: {words_of(cause)}.") from exc
                log.warning("the database cannot be reached yet", extra={"error": words_of(cause)})
                await asyncio.sleep(0.5)
        self._append_pool = asyncpg.create_pool(
            connect=self._connect_to_append,
            reset=keep_settings,
            min_size=0,
            max_size=APPENDERS,
            max_inactive_connection_lifetime=600,
        )
        await self._append_pool
        # A connection of its own, closed at once: a restore counts the connections that servers keep.
        raw = await self._connect("orbital-migrate")
        try:
            if await raw.fetchval("SHOW synchronous_commit") == "off":
                raise DatabaseRefused(
                    f"synchronous_commit is off at {self._shown} and cannot be turned on, so an answer would not mean "
                    "that an event is stored. Set it to on in PostgreSQL or in the pooler."
                )
        finally:
            await raw.close()

    async def _migrate(self) -> None:
        # Without deadlines: who starts second waits for a migration of the first, however long that takes.
        patient = {"application_name": "orbital-migrate", "lock_timeout": "0", "statement_timeout": "0"}
        timeout_s = connect_timeout_s(self._dsn, default=CONNECT_S)
        await refuse_shared_sessions(self._dsn, timeout=timeout_s)
        engine = create_async_engine(
            "postgresql+asyncpg://",
            poolclass=NullPool,
            async_creator=lambda *_args, **_options: connect(self._dsn, patient, timeout=timeout_s),
        )
        try:
            async with engine.begin() as conn:
                await conn.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                await conn.run_sync(schema.migrate)
                if await conn.scalar(text("SHOW synchronous_commit")) == "off":
                    # An answer means that it is on the disk.
                    self._settings["synchronous_commit"] = "on"
                    log.warning("synchronous_commit is off in this database; this server turns it on for itself")
                if await conn.scalar(text("SHOW fsync")) == "off":
                    log.warning("fsync is off in this PostgreSQL: what was answered may be lost with the power")
        finally:
            await engine.dispose()

    @staticmethod
    def _engine(connect: Callable[..., Awaitable[Any]], size: int, isolation_level: IsolationLevel) -> AsyncEngine:
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=size,
            max_overflow=0,
            pool_timeout=CONNECT_S,
            # Behind a proxy or a failover, no connection outlives half an hour.
            pool_recycle=1800,
            isolation_level=isolation_level,
        )

    async def _connect_to_read(self, *_args: object, **_options: object) -> asyncpg.Connection:
        return await self._connect("orbital-read")

    async def _connect_to_write(self, *_args: object, **_options: object) -> asyncpg.Connection:
        return await self._connect(WRITING)

    async def _connect_to_append(self, *_args: object, **_options: object) -> asyncpg.Connection:
        raw = await self._connect(WRITING)
        self._appender.forget()
        return raw

    async def _connect(self, name: str) -> asyncpg.Connection:
        settings = {"application_name": name, **self._settings}
        timeout_s = connect_timeout_s(self._dsn, default=CONNECT_S)
        return await connect(self._dsn, settings, timeout=timeout_s, command_timeout=ANSWER_S)

    # Chapter: transactions

    async def _read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._transact(self._reader, query, args, kwargs)

    async def _write(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._transact(self._writer, query, args, kwargs)

    async def _transact(
        self, engine: AsyncEngine, query: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        for left in range(TRIES - 1, -1, -1):
            try:
                async with engine.begin() as conn:
                    found = await conn.run_sync(query, *args, **kwargs)
                self._came_back()
                self._stuck = self._stuck and engine is self._reader
                return found
            except (SQLAlchemyError, *DRIVER) as exc:
                if left and (is_retryable(exc) or (engine is self._reader and was_stale(exc))):
                    continue
                self._stuck = self._stuck or (engine is self._writer and is_away(cause_of(exc)))
                raise self._refusal(exc) from exc
        raise AssertionError("the last try returns or raises")

    def _came_back(self) -> None:
        if self._away:
            self._away = False
            log.warning("the database can be reached again")

    def _refusal(self, exc: Exception) -> OrbitalError:
        """Turn a failure into the client's answer; the log gets the database's words, once for each outage."""
        cause = cause_of(exc)
        if isinstance(exc, PoolTimeoutError):
            # The database answers; this server asks it for more than its connections carry.
            log.warning("no connection to the database was free in time", extra={"wait_s": CONNECT_S})
            return Busy("The server is busy. Try again in a few seconds.", retry_after_s=2)
        if is_away(cause):
            if not self._away:
                self._away = True
                log.error("the database cannot be reached", extra={"error": words_of(cause)})
            # A connection that breaks during COMMIT leaves open whether it took place, so nothing is said of that.
            return Unavailable(
                "The database cannot be used right now. Try again: the same Idempotency-Key stores nothing twice.",
                retry_after_s=2,
            )
        state = sqlstate_of(cause)
        if state.startswith("22") or isinstance(cause, asyncpg.DataError):
            # A NUL in a text, a number over 64 bits: nothing that the protocol allows, and nobody else's fault.
            return ValidationFailed("A value holds what the database cannot: a NUL character, or too large a number.")
        log.error("the database refused", extra={"error": words_of(cause), "sqlstate": state})
        return bug_in_store()

    async def low_watermark_ms(self) -> int | None:
        """
        See `ports.Store.low_watermark_ms`.

        Servers that log in under different names do not see each other's transactions there: use one for all.
        """
        return await self._read(_low_watermark_ms)

    # Chapter: appending

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """
        See `ports.Store.append`.

        Posts that stand side by side share a transaction; each draft of another kind has one of its own, in its place.
        If the database becomes unreachable between them, those after are answered `Unavailable` one by one.
        """
        outcomes: list[Appended | OrbitalError] = []
        next_ms = first_stamp_ms
        for start, end in pairwise(_cuts(drafts)):
            try:
                some = await self._append(drafts[start:end], next_ms)
                outcomes += some
                # What comes later has later stamps, also where the database's clock was ahead.
                given = [one.event.stamp_ms for one in some if isinstance(one, Appended) and one.event is not None]
                next_ms = max(first_stamp_ms + end, next_ms, *(stamp_ms + 1 for stamp_ms in given))
            except Unavailable as away:
                if not outcomes:
                    raise
                outcomes += [away] * (len(drafts) - len(outcomes))
                break
        return outcomes

    async def _append(self, drafts: Sequence[AnyDraft], first_stamp_ms: int) -> list[Appended | OrbitalError]:
        posts = [draft for draft in drafts if isinstance(draft, PostMessage | PostThread | PostReply)]
        if len(posts) < len(drafts):
            return [await self._append_one(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]
        try:
            return await self._append_posts(posts, first_stamp_ms)
        except OrbitalError:
            raise
        except Exception as exc:  # noqa: BLE001 - one of them is at fault: alone, each of the others goes through
            log.warning("a batch of drafts failed; each is retried alone", extra={"error": type(exc).__name__})
        return [await self._append_one(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]

    async def _append_posts(self, posts: Sequence[BulkDraft], first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """Store posts in one transaction; what is no fault of the database comes out as it is."""
        for left in range(TRIES - 1, -1, -1):
            try:
                async with asyncio.timeout(ANSWER_S):
                    async with self._append_pool.acquire() as raw, raw.transaction(isolation="read_committed"):
                        outcomes = await self._appender.posts(raw, posts, first_stamp_ms=first_stamp_ms)
                self._came_back()
                self._stuck = False
                return outcomes
            except (asyncpg.ForeignKeyViolationError, ThreadDeleted):
                # A reply in a thread that was deleted since it was remembered: read again, the thread is missing.
                self._appender.forget()
                if not left:
                    raise
            except (*DRIVER, KeyTaken) as exc:
                if left and (isinstance(exc, KeyTaken) or is_retryable(exc)):
                    continue
                if is_away(exc):
                    self._stuck = True
                    raise self._refusal(exc) from exc
                raise
        raise AssertionError("the last try returns or raises")

    async def _append_one(self, draft: AnyDraft, stamp_ms: int) -> Appended | OrbitalError:
        for left in range(TRIES - 1, -1, -1):
            try:
                return await self._write(append_one, draft, stamp_ms=stamp_ms)
            except KeyTaken as exc:
                if not left:
                    return self._refusal(exc)
            except Unavailable:
                raise
            except OrbitalError as refusal:
                return refusal
            except Exception:
                log.exception("a draft could not be appended", extra={"kind": type(draft).__name__})
                return bug_in_store()
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Finish what is in progress and close the database."""
        if self._append_pool is not None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._append_pool.close()
            except TimeoutError:
                self._append_pool.terminate()
        with contextlib.suppress(SQLAlchemyError, *DRIVER):
            await self._reader.dispose()
            await self._writer.dispose()


_log: type[Store] = PostgresStore
_media: type[MediaRows] = PostgresStore


def _cuts(drafts: Sequence[AnyDraft]) -> list[int]:
    """Return where the transactions of a batch begin, and its end: posts together, every other draft alone."""
    cuts = [0]
    opened: set[str] = set()
    for index, draft in enumerate(drafts):
        post = isinstance(draft, PostMessage | PostThread | PostReply)
        # A reply is written to a thread that is already there.
        if not post or (isinstance(draft, PostReply) and draft.thread_id in opened):
            cuts.append(index)
            opened.clear()
        if not post:
            cuts.append(index + 1)
        elif isinstance(draft, PostThread):
            opened.add(draft.thread_id)
    return sorted({*cuts, len(drafts)})


def _low_watermark_ms(conn: Connection) -> int:
    return int(conn.execute(_LOW_WATERMARK_MS).scalar_one())


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
