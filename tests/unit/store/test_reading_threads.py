"""The reading threads of SQLite."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from sqlalchemy import Connection, text

from orbital_relay.store.reading_threads import READERS, READS_TOGETHER
from orbital_relay.store.sqlite import SqliteStore

DEADLINE_S = 120.0


def _thread(conn: Connection) -> tuple[int, int]:
    """Return the thread, and a fact of the database."""
    return threading.get_ident(), int(conn.execute(text("SELECT 40 + 2")).scalar_one())


async def test_reads_of_one_turn_share_a_thread(tmp_path: Path):
    """[READERS1] Reads that are asked for in one turn of the loop are run by one thread."""
    store = await SqliteStore.open(tmp_path / "orbital.db")
    try:
        found = await asyncio.gather(*(store._read(_thread) for _ in range(READS_TOGETHER)))
    finally:
        await store.close()

    assert {answer for _, answer in found} == {42}
    assert len({thread for thread, _ in found}) == 1


async def test_a_long_read_holds_up_no_other(tmp_path: Path):
    """[READERS2] While some reads take long, others are run by the threads that are left."""
    store = await SqliteStore.open(tmp_path / "orbital.db")
    go, loop = threading.Event(), asyncio.get_running_loop()

    def wait(_conn: Connection, started: asyncio.Event) -> bool:
        loop.call_soon_threadsafe(started.set)
        return go.wait(DEADLINE_S)

    try:
        slow = []
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(READERS - 1):
                started = asyncio.Event()
                slow.append(asyncio.create_task(store._read(wait, started)))
                await started.wait()
            assert (await store._read(_thread))[1] == 42
        assert not any(task.done() for task in slow)
        go.set()
        assert await asyncio.gather(*slow) == [True] * len(slow)
    finally:
        go.set()
        await store.close()


async def test_reads_fail_alone(tmp_path: Path):
    """[READERS3] A read that raises fails alone; those in the same transaction succeed."""
    store = await SqliteStore.open(tmp_path / "orbital.db")

    def fail(_conn: Connection) -> None:
        raise ValueError("this one")

    try:
        found = await asyncio.gather(
            store._read(_thread), store._read(fail), store._read(_thread), return_exceptions=True
        )
    finally:
        await store.close()

    assert isinstance(found[1], ValueError)
    assert [one[1] for one in (found[0], found[2])] == [42, 42]
