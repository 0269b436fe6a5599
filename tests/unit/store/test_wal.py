"""The frames that SQLite's write-ahead log must have, by its index, and the locks that reading it must keep."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orbital_relay.store.wal import WriteAheadLog
from tests.support.locks import lasting_locks


def test_a_log_that_lost_frames(tmp_path: Path):
    """[WALT1] A log without its last byte is truncated; a complete, checkpointed, restarted or missing log is not."""
    path = tmp_path / "one.db"
    assert not WriteAheadLog(path).is_truncated()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        log = WriteAheadLog(path)
        db.execute("INSERT INTO t VALUES (1)")
        assert not log.is_truncated()
        db.execute("PRAGMA wal_checkpoint(RESTART)")
        assert not log.is_truncated()
        db.execute("INSERT INTO t VALUES (2)")
        assert not log.is_truncated()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not log.is_truncated()
        db.execute("INSERT INTO t VALUES (3)")
        wal = path.with_name("one.db-wal")
        whole = wal.read_bytes()

        os.truncate(wal, len(whole) - 1)
        assert log.is_truncated()
        wal.write_bytes(whole)
        assert not log.is_truncated()
    log.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the locks of a process are read in /proc")
def test_the_locks_of_a_connection(tmp_path: Path):
    """[WALT3] Reading the index of the write-ahead log leaves SQLite's locks on it as they are."""
    path = tmp_path / "one.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        log = WriteAheadLog(path)
        assert not log.is_truncated()
        held = lasting_locks(path)
    log.close()

    assert held == {"one.db", "one.db-shm"}
