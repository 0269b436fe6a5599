"""The frames that SQLite's write-ahead log must have, by its index."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from orbital_relay.store.wal import is_truncated


def test_a_log_that_lost_frames(tmp_path: Path):
    """[WALT1] A log without its last byte is truncated; a complete, checkpointed, restarted or missing log is not."""
    path = tmp_path / "one.db"
    assert not is_truncated(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (1)")
        assert not is_truncated(path)
        db.execute("PRAGMA wal_checkpoint(RESTART)")
        assert not is_truncated(path)
        db.execute("INSERT INTO t VALUES (2)")
        assert not is_truncated(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not is_truncated(path)
        db.execute("INSERT INTO t VALUES (3)")
        wal = path.with_name("one.db-wal")
        whole = wal.read_bytes()

        os.truncate(wal, len(whole) - 1)
        assert is_truncated(path)
        wal.write_bytes(whole)
        assert not is_truncated(path)
