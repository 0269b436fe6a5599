"""Compaction: rewrite the SQLite file without the space of deleted rows (VACUUM)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orbital_relay.errors import Unavailable


def rewrite(path: Path) -> None:
    """
    Write a database's file again without free pages; only while nobody uses it.

    Raises:
        Unavailable: If the disk has no room for a second file.
    """
    raw = sqlite3.connect(path, isolation_level=None)
    try:
        raw.execute("VACUUM")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as exc:
        raise Unavailable(f"The database could not be written again: {exc}.") from exc
    finally:
        raw.close()
