"""The store on SQLite: write-ahead log (WAL), fsync, file lock; one thread writes and a few read."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from orbital_relay.core.refusals import bug_in_store
from orbital_relay.errors import DatabaseRefused, OrbitalError, Unavailable
from orbital_relay.model import AnyDraft
from orbital_relay.ownership import make_file, make_private
from orbital_relay.ports import Appended, MediaRows, Store
from orbital_relay.store import schema, sqlite_access
from orbital_relay.store.append.sqlite import SqliteAppender
from orbital_relay.store.reading_threads import ReadingThreads
from orbital_relay.store.sql import SqlStore, reading
from orbital_relay.store.wal import WriteAheadLog

T = TypeVar("T")
log = logging.getLogger("orbital.store")

WRITER_CACHE_KB: Final = 8000
"""Pages that the writer keeps."""
READER_CACHE_KB: Final = 4000
"""Pages that each reader keeps. With 16,000 a server that had replayed a long log held 50 MB more, and was as fast."""

BUSY_S: Final = 5.0
"""How long a connection waits for another program that holds the file, such as a backup."""


RESERVE_BYTES: Final = 512 * 1024
"""Room kept free beside the database: enough for SQLite's shared memory, so that a full disk can still be read."""


class SqliteStore(SqlStore):
    """
    The log in one file, written by one server.

    A commit returns after the write-ahead log is on the disk (`synchronous=FULL`). It never shares the file with
    another server: a lock file beside it says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._opened: list[Connection] = []
        self._opened_lock = threading.Lock()
        self._appender = SqliteAppender()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="orbital-writer")
        self._write_engine = _engine(path, begin="BEGIN IMMEDIATE", query_only=False)
        self._read_engine = _engine(path, begin="BEGIN", query_only=True)
        self._readers = ReadingThreads(lambda: self._connection(self._read_engine), failed=self._failed)
        self._lock: _Lock | None = None
        self._wal: WriteAheadLog | None = None
        # The last commit failed: until one succeeds nothing can be stored, and the server is not ready.
        self._stuck = False
        # The write-ahead log lost frames: a write now would leave a hole in it, which SQLite would take for pages.
        self._truncated = False

    @classmethod
    async def open(cls, path: Path, *, alone: bool = True) -> SqliteStore:
        """
        Open the file, made if need be, and bring it to this program's schema.

        Args:
            path: The file.
            alone: Whether nobody else may append meanwhile. Without it the store appends nothing, and a server may be
                running.

        Raises:
            DatabaseRefused: If another server has it open, it is newer than the program, or it cannot be opened.
        """
        store = cls(path)
        try:
            await asyncio.get_running_loop().run_in_executor(store._writer, store._prepare, alone)
        except BaseException:
            await store.close()
            raise
        return store

    def _prepare(self, alone: bool) -> None:  # noqa: FBT001 - an executor passes no keywords
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Links are followed first: two names of one file are one database, with one lock and one write-ahead log.
            real = self._path.resolve()
            self._lock = _Lock.take(real)
            if self._lock is None and alone:
                raise DatabaseRefused(
                    f"Another server is using {self._path}. Stop it first, or give this one another folder with "
                    "--data-dir."
                )
            if not real.exists():
                make_file(real)
            # SQLite makes the other two with the mode and the owner of the first.
            for suffix in ("", "-wal", "-shm"):
                make_private(real.with_name(real.name + suffix), like=real.parent)
            reserve = real.with_name(real.name + ".reserve")
            try:
                self._migrate()
            except DBAPIError:
                if not reserve.exists() or shutil.disk_usage(real.parent).free >= RESERVE_BYTES:
                    raise
                # The disk is full: without room for its shared memory SQLite would not even read.
                reserve.unlink()
                log.warning("the disk is full; what is stored can be read, and nothing more can be stored")
                self._forget_connection()
                self._migrate()
                self._stuck = True
            else:
                _keep_free(reserve)
            self._wal = WriteAheadLog(real)
        except (DBAPIError, OSError) as exc:
            cause = exc.orig if isinstance(exc, DBAPIError) else exc
            raise DatabaseRefused(f"The database {self._path} cannot be opened: {cause}.") from exc

    def _migrate(self) -> None:
        """Bring the file to this program's schema, or see that it is, where another server writes it."""
        with self._connection(self._write_engine).begin() as transaction:
            if self._lock is not None:
                schema.migrate(transaction.connection)
            elif schema.current(transaction.connection) != schema.newest():
                raise DatabaseRefused(f"The server that is using {self._path} is of another version than this.")

    def _forget_connection(self) -> None:
        """Close this thread's connection, if one was opened: the next use opens another."""
        conn: Connection | None = getattr(self._local, "connection", None)
        if conn is not None:
            conn.close()
            self._opened.remove(conn)
            self._local.connection = None

    def _connection(self, engine: Engine) -> Connection:
        """Return this thread's connection; threads keep theirs, since opening costs more than a query."""
        conn: Connection | None = getattr(self._local, "connection", None)
        if conn is None:
            conn = engine.connect()
            self._local.connection = conn
            with self._opened_lock:
                self._opened.append(conn)
        return conn

    async def _read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._readers.read(query, args, kwargs)

    memberships = reading(sqlite_access.memberships)
    resume_points = reading(sqlite_access.resume_points)
    read_many = reading(sqlite_access.read_many)

    async def _write(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        def transact() -> T:
            self._refuse_truncated()
            conn = self._connection(self._write_engine)
            try:
                with conn.begin():
                    result = query(conn, *args, **kwargs)
                self._stuck = False
            except DBAPIError as exc:
                self._stuck = True
                raise self._failed(exc) from exc
            return result

        return await asyncio.get_running_loop().run_in_executor(self._writer, transact)

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """See `ports.Store.append`."""
        if self._lock is None:
            raise AssertionError("a store that is not alone appends nothing")
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._append, drafts, first_stamp_ms)

    def _append(self, drafts: Sequence[AnyDraft], first_stamp_ms: int) -> list[Appended | OrbitalError]:
        self._refuse_truncated()
        conn = self._connection(self._write_engine)
        try:
            with conn.begin():
                outcomes = self._appender.append(conn, drafts, first_stamp_ms=first_stamp_ms)
            self._stuck = False
            return outcomes
        except (DBAPIError, sqlite3.Error) as exc:
            self._appender.forget()
            self._stuck = True
            raise self._failed(exc) from exc
        except Exception as exc:
            self._appender.forget()
            if len(drafts) == 1:
                log.exception("a draft could not be appended", extra={"kind": type(drafts[0]).__name__})
                return [bug_in_store()]
            log.warning("a batch of drafts failed; each is retried alone", extra={"error": type(exc).__name__})
        # One of them is at fault: alone, each of the others goes through.
        outcomes = []
        for index, draft in enumerate(drafts):
            outcomes += self._append([draft], first_stamp_ms + index)
        return outcomes

    async def ready(self) -> bool:
        """Return whether the database can be read and written, and its write-ahead log is whole."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._look_at_wal)
        return not self._truncated and await super().ready()

    def _look_at_wal(self) -> None:
        if self._truncated or self._wal is None or not self._wal.is_truncated():
            return
        self._truncated = True
        log.error(
            "the write-ahead log of the database was truncated by another program or by a fault of the disk; nothing "
            "more is stored. Copy the data folder, start the server again, and verify what is left: orbital check",
            extra={"file": f"{self._path}-wal"},
        )

    def _refuse_truncated(self) -> None:
        if self._truncated:
            raise Unavailable("The database is damaged; nothing was stored. Its operator has to restart the server.")

    def _failed(self, exc: Exception) -> OrbitalError:
        """Turn a failure of SQLite into the client's answer; the log has SQLite's words and, where known, the cause."""
        log.error("the database failed", extra={"error": str(exc.orig if isinstance(exc, DBAPIError) else exc)})
        self._look_at_wal()
        return Unavailable("The database cannot be used right now; nothing was stored. Try again.", retry_after_s=2)

    async def close(self) -> None:
        """Finish what is in progress and close the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.close()
        self._writer.shutdown()
        for conn in self._opened:
            conn.close()
        self._read_engine.dispose()
        self._write_engine.dispose()
        if self._wal is not None:
            self._wal.close()
        if self._lock is not None:
            self._lock.close()


_log: type[Store] = SqliteStore
_media: type[MediaRows] = SqliteStore


def _engine(path: Path, *, begin: str, query_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        # The tail of the log and the inner pages of its indexes. The system caches the file once for all connections.
        raw.execute(f"PRAGMA cache_size=-{READER_CACHE_KB if query_only else WRITER_CACHE_KB}")
        if query_only:
            raw.execute("PRAGMA query_only=ON")
        return raw

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    # isolation_level=None leaves transactions to us: SQLAlchemy's begin is where ours begins.
    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        raw = conn.connection.driver_connection
        if query_only and raw is not None:
            # By the driver: reads are many and short, and SQLAlchemy's way there takes longer than most of them.
            raw.execute(begin)
        else:
            conn.exec_driver_sql(begin)

    return engine


def _keep_free(reserve: Path) -> None:
    """Write a file that is deleted when a start finds the disk full; without room for it there is none."""
    if reserve.exists() and reserve.stat().st_size == RESERVE_BYTES:
        return
    try:
        make_file(reserve)
        # Written, not sparse: only blocks that are taken can be given back.
        reserve.write_bytes(b"\0" * RESERVE_BYTES)
    except OSError:
        reserve.unlink(missing_ok=True)


class _Lock:
    """
    The right to write a database, held until it is closed or the process ends.

    It is a lock on a file beside the database, and where the system keeps the two kinds of lock apart one on the
    database itself, which a hard link in another folder shares.
    """

    def __init__(self, *handles: int) -> None:
        self._handles = handles

    @classmethod
    def take(cls, path: Path) -> _Lock | None:
        """Take it; None when another process holds it."""
        beside = path.with_name(path.name + ".lock")
        make_file(beside)
        first = _flock(beside)
        if first is None:
            return None
        # Elsewhere than on Linux flock(2) and the locks that SQLite takes stand in each other's way.
        if not sys.platform.startswith("linux"):
            return cls(first)
        if not path.exists():
            make_file(path)
        second = _flock(path)
        if second is None:
            os.close(first)
            return None
        return cls(first, second)

    def close(self) -> None:
        """Give it back. Every connection of this process must be closed: closing a file drops SQLite's locks on it."""
        for handle in self._handles:
            os.close(handle)


def _flock(path: Path) -> int | None:
    """Lock a file; return its handle, or None when another process holds it."""
    import fcntl  # noqa: PLC0415 - the server runs where POSIX locks are; the SDK imports nothing of this

    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
