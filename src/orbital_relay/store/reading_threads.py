"""The reading threads of SQLite, and the queue of reads that wait for one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orbital_relay.errors import OrbitalError

T = TypeVar("T")
_Read = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], asyncio.Future[Any]]
_Outcome = tuple[asyncio.Future[Any], object, BaseException | None]

READERS: Final = 3
"""Threads that read. SQLite's work releases the lock of the interpreter; more than a few only take turns for it."""

READS_TOGETHER: Final = 16
"""Most reads of one transaction. When many clients come back at once, a hop to a thread and back for each read costs
more than the read; a long one keeps at most so many others waiting."""

HELP_S: Final = 0.002
"""How long reads wait for the thread that is at work before another one begins, in seconds. A short read is done by
then, and two threads that take turns for the lock of the interpreter cost more than one that does the work of both."""


class ReadingThreads:
    """
    Runs reads on threads, those that wait together in one transaction.

    One thread does the work while reads are short; the others join when a read takes long.

    Args:
        connect: Returns the connection of the thread that calls it.
        failed: Makes the caller's answer of an error of the database.
    """

    def __init__(self, connect: Callable[[], Connection], *, failed: Callable[[Exception], OrbitalError]) -> None:
        self._connect = connect
        self._failed = failed
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="orbital-reader")
        self._wanted: deque[_Read] = deque()
        self._at_work = 0
        self._help: asyncio.TimerHandle | None = None

    async def read(self, query: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Return what `query(connection, …)` returns in a transaction that sees all that was committed before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._wanted.append((query, args, kwargs, future))
        if self._at_work == 0:
            self._at_work = 1
            # At the end of this turn of the loop: what else is asked in it is read in the same transaction.
            loop.call_soon(self._begin, loop)
        elif self._help is None and self._at_work < READERS:
            self._help = loop.call_later(HELP_S, self._begin_another, loop)
        return await future

    def close(self) -> None:
        """Finish the reads that are in progress."""
        self._threads.shutdown()

    # Private

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._threads.submit(self._work, loop)
        except RuntimeError:
            # A store that is being closed reads no more; its callers are being cancelled, too.
            self._at_work -= 1

    def _begin_another(self, loop: asyncio.AbstractEventLoop) -> None:
        self._help = None
        if self._wanted and self._at_work < READERS:
            self._at_work += 1
            self._begin(loop)
            if self._at_work < READERS:
                self._help = loop.call_later(HELP_S, self._begin_another, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run some of the reads that wait, in one transaction; on a reader's thread."""
        # Taken before the transaction begins: a read sees all that was committed before it was asked for.
        reads: list[_Read] = []
        with suppress(IndexError):
            while len(reads) < READS_TOGETHER:
                reads.append(self._wanted.popleft())
        outcomes: list[_Outcome] = []
        try:
            with self._connect().begin() as transaction:
                for query, args, kwargs, future in reads:
                    try:
                        outcomes.append((future, query(transaction.connection, *args, **kwargs), None))
                    except (DBAPIError, sqlite3.Error):
                        raise
                    except Exception as exc:  # noqa: BLE001 - the caller gets it
                        outcomes.append((future, None, exc))
        except Exception as exc:  # noqa: BLE001 - nobody may wait for ever
            reason = self._failed(exc) if isinstance(exc, DBAPIError | sqlite3.Error) else exc
            outcomes += [(future, None, reason) for *_, future in reads[len(outcomes) :]]
        # A loop that is closed has no waiters.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._deliver, loop, outcomes)

    def _deliver(self, loop: asyncio.AbstractEventLoop, outcomes: list[_Outcome]) -> None:
        """Deliver the outcomes to the callers, and go on reading while reads are queued."""
        if self._wanted:
            self._begin(loop)
        else:
            self._at_work -= 1
        for future, result, error in outcomes:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
