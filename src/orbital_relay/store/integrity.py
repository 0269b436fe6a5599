"""The database's own integrity check of pages, keys and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

MOST_FINDINGS: Final = 20
"""Findings that are reported; a damaged page makes many."""

_HAS_AMCHECK: Final = text("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'")
_INDEXES: Final = text(
    "SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.amname = 'btree' AND n.nspname = current_schema() "
    "AND i.indisvalid ORDER BY c.relname"
)
_CHECK_INDEX: Final = text("SELECT bt_index_check(CAST(:oid AS oid), true)")


def integrity(conn: Connection) -> list[str]:
    """
    Return a sentence for each thing that is wrong.

    SQLite checks its pages, its indexes with their rows, and foreign keys. PostgreSQL checks its B-tree indexes with
    their rows where the extension amcheck is installed; without it nothing is found.
    """
    try:
        return (_postgres if conn.dialect.name == "postgresql" else _sqlite)(conn)[:MOST_FINDINGS]
    except DBAPIError as exc:
        return [f"the database's own check failed: {_words(exc)}"]


def _sqlite(conn: Connection) -> list[str]:
    rows = conn.exec_driver_sql(f"PRAGMA integrity_check({MOST_FINDINGS})")
    found = [f"SQLite's integrity_check: {line}" for (answer,) in rows for line in answer.split("\n") if line != "ok"]
    for table, row, parent, _ in conn.exec_driver_sql("PRAGMA foreign_key_check"):
        found.append(f"row {row} of {table} refers to a row of {parent} that is missing")
    return found


def _postgres(conn: Connection) -> list[str]:
    if conn.execute(_HAS_AMCHECK).first() is None:
        return []
    found = []
    for oid, name in conn.execute(_INDEXES).all():
        try:
            with conn.begin_nested():
                conn.execute(_CHECK_INDEX, {"oid": oid})
        except DBAPIError as exc:
            found.append(f"PostgreSQL's amcheck of {name}: {_words(exc)}")
    return found


def _words(exc: DBAPIError) -> str:
    return str(exc.orig).partition("\n")[0].rstrip(".")
