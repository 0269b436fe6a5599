"""The store on SQLite: synchronous, on threads of its own, one that writes and a few that read."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from orbital_relay.errors import DatabaseRefused, OrbitalError, Unavailable
from orbital_relay.model import AnyDraft, Appended
from orbital_relay.ports import MediaRows, Store
from orbital_relay.store import schema
from orbital_relay.store.append_sqlite import SqliteAppender
from orbital_relay.store.sql import SqlStore

T = TypeVar("T")
_Read = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], asyncio.Future[Any]]
_Outcome = tuple[asyncio.Future[Any], object, BaseException | None]
log = logging.getLogger("orbital.store")

READERS: Final = 3
"""Threads that read. SQLite's work releases the lock of the interpreter; more than a few only take turns for it."""

READS_TOGETHER: Final = 16
"""Most reads of one transaction. When many clients come back at once, a hop to a thread and back for each read costs
more than the read; a long one keeps at most so many others waiting."""

BUSY_S: Final = 5.0
"""How long a connection waits for another program that holds the file, such as a backup."""


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
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="orbital-reader")
        self._write_engine = _engine(path, begin="BEGIN IMMEDIATE", query_only=False)
        self._read_engine = _engine(path, begin="BEGIN", query_only=True)
        self._lock: IO[str] | None = None
        self._wanted: deque[_Read] = deque()
        self._reading = 0

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
            self._lock = _lock(self._path)
            if self._lock is None and alone:
                raise DatabaseRefused(
                    f"Another server is using {self._path}. Stop it first, or give this one another folder with "
                    "--data-dir."
                )
            with self._connection(self._write_engine).begin() as transaction:
                if self._lock is not None:
                    schema.migrate(transaction.connection)
                elif schema.current(transaction.connection) != schema.newest():
                    raise DatabaseRefused(f"The server that is using {self._path} is of another version than this.")
        except (DBAPIError, OSError) as exc:
            cause = exc.orig if isinstance(exc, DBAPIError) else exc
            raise DatabaseRefused(f"The database {self._path} cannot be opened: {cause}.") from exc

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
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._wanted.append((query, args, kwargs, future))
        if self._reading < READERS:
            self._readers.submit(self._read_wanted, loop)
            self._reading += 1
        return await future

    def _read_wanted(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run some of the reads that wait, in one transaction; on a reader's thread."""
        # Taken before the transaction begins: a read sees all that was committed before it was asked for.
        reads: list[_Read] = []
        with suppress(IndexError):
            while len(reads) < READS_TOGETHER:
                reads.append(self._wanted.popleft())
        outcomes: list[_Outcome] = []
        try:
            with self._connection(self._read_engine).begin() as transaction:
                for query, args, kwargs, future in reads:
                    try:
                        outcomes.append((future, query(transaction.connection, *args, **kwargs), None))
                    except DBAPIError:
                        raise
                    except Exception as exc:  # noqa: BLE001 - whoever asked gets it
                        outcomes.append((future, None, exc))
        except Exception as exc:  # noqa: BLE001 - nobody may wait for ever
            reason = _away(exc) if isinstance(exc, DBAPIError) else exc
            outcomes += [(future, None, reason) for *_, future in reads[len(outcomes) :]]
        # A loop that is gone has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._tell, loop, outcomes)

    def _tell(self, loop: asyncio.AbstractEventLoop, outcomes: list[_Outcome]) -> None:
        """Hand the outcomes to those who asked, and go on reading while somebody waits."""
        self._reading -= 1
        if self._wanted:
            # A store that is being closed reads no more; whoever still waits is being ended, too.
            with suppress(RuntimeError):
                self._readers.submit(self._read_wanted, loop)
                self._reading += 1
        for future, result, error in outcomes:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    async def _write(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        def transact() -> T:
            conn = self._connection(self._write_engine)
            try:
                with conn.begin():
                    return query(conn, *args, **kwargs)
            except DBAPIError as exc:
                raise _away(exc) from exc

        return await asyncio.get_running_loop().run_in_executor(self._writer, transact)

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """See `ports.Store.append`."""
        if self._lock is None:
            raise AssertionError("a store that is not alone appends nothing")
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._append, drafts, first_stamp_ms)

    def _append(self, drafts: Sequence[AnyDraft], first_stamp_ms: int) -> list[Appended | OrbitalError]:
        conn = self._connection(self._write_engine)
        try:
            with conn.begin():
                return self._appender.append(conn, drafts, first_stamp_ms=first_stamp_ms)
        except DBAPIError as exc:
            self._appender.forget()
            raise _away(exc) from exc
        except sqlite3.Error as exc:
            self._appender.forget()
            raise _away(exc) from exc
        except Exception as exc:
            self._appender.forget()
            if len(drafts) == 1:
                log.exception("a draft could not be appended", extra={"kind": type(drafts[0]).__name__})
                return [OrbitalError("The server made a mistake; nothing was stored. Its log tells more.")]
            log.warning("a batch of drafts failed and is taken apart", extra={"error": type(exc).__name__})
        # One of them is at fault: alone, each of the others goes through.
        outcomes: list[Appended | OrbitalError] = []
        for index, draft in enumerate(drafts):
            outcomes += self._append([draft], first_stamp_ms + index)
        return outcomes

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for conn in self._opened:
            conn.close()
        self._read_engine.dispose()
        self._write_engine.dispose()
        if self._lock is not None:
            self._lock.close()


_log: type[Store] = SqliteStore
_media: type[MediaRows] = SqliteStore


def _away(exc: Exception) -> OrbitalError:
    """Turn a failure of SQLite into the answer for whoever asked; the log gets its words."""
    log.error("the database failed", extra={"error": str(exc.orig if isinstance(exc, DBAPIError) else exc)})
    return Unavailable("The database cannot be used right now; nothing was stored. Try again.", retry_after_s=2)


def _engine(path: Path, *, begin: str, query_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        # 16 MB: the tail of the log and the inner pages of its indexes.
        raw.execute("PRAGMA cache_size=-16000")
        if query_only:
            raw.execute("PRAGMA query_only=ON")
        return raw

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    # isolation_level=None leaves transactions to us: SQLAlchemy's begin is where ours begins.
    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _lock(path: Path) -> IO[str] | None:
    """Hold the lock file of a database until it is closed or the process ends; None when another process holds it."""
    import fcntl  # noqa: PLC0415 - the server runs where POSIX locks are; the SDK imports nothing of this

    file = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
