"""Databases of every version of the schema are migrated, with what is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, MetaData, func, insert, select
from sqlalchemy.ext.asyncio import create_async_engine

from orbital_relay.store import schema
from orbital_relay.store.sqlite import SqliteStore
from tests.contracts.drafts import Stamps, enter, group_of, put_one
from tests.contracts.schemas import DROPPED, dump_of, rows_of, tables_of

REVISIONS = sorted(schema.revisions())


def _loaded(tmp_path: Path, revision: str, name: str = "orbital.db") -> Path:
    """Load the database that a version left behind."""
    path = tmp_path / name
    with closing(sqlite3.connect(path)) as made:
        made.executescript(dump_of(revision).read_text("utf-8"))
    return path


def _kept(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table that every later version has."""
    return {
        table: [column for column in columns if (table, column) not in DROPPED]
        for table, columns in tables_of(path).items()
    }


def _media(before: Path) -> int:
    """Return how many media a version's database has: the first one could have none."""
    return 1 if "media" in tables_of(before) else 0


async def _assert_whole(store: Any, *, media: int) -> None:
    """Assert that the log of the migrated database is intact, and that it is written on."""
    (group_id,) = await store.group_ids()
    assert (await store.verify(group_id)).findings == []
    (group,) = await store.groups()
    assert (group.last_seq, group.members, group.threads, group.stored.media) == (6 + media, 2, 1, media)
    assert len((await store.read(group_id, after=0, limit=100)).events) == 6 + media
    dora = await enter(store, "dora")
    made = group_of(dora)
    await put_one(store, Stamps(), made)
    assert (await store.verify(made.group_id)).findings == []


def test_every_version_has_a_database():
    """[SCHEMADATA1] Each version that the migrations know has a database to migrate, with a row in its main tables."""
    assert sorted(path.stem[1:] for path in dump_of("0001").parent.glob("v*.sql")) == REVISIONS
    for revision in REVISIONS:
        text = dump_of(revision).read_text("utf-8")
        for table in ("users", "groups", "members", "events", "threads", "replies", "idempotency_keys"):
            assert f'INSERT INTO "{table}"' in text, (revision, table)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_version_is_migrated(tmp_path: Path, revision: str):
    """[SCHEMADATA2] A SQLite file of each version keeps every value through the migration, and is written on."""
    before, path = _loaded(tmp_path, revision, "before.db"), _loaded(tmp_path, revision)
    store = await SqliteStore.open(path)
    await store.close()

    assert {table: rows_of(path, table, columns) for table, columns in _kept(before).items()} == {
        table: rows_of(before, table, columns) for table, columns in _kept(before).items()
    }
    store = await SqliteStore.open(path)
    try:
        await _assert_whole(store, media=_media(before))
    finally:
        await store.close()


async def test_authors_of_records(tmp_path: Path):
    """[SCHEMADATA4] Migrated records of an account that was erased name the author that their event has in the log."""
    path = _loaded(tmp_path, "0012")
    with closing(sqlite3.connect(path)) as made:
        place, group, author = made.execute(
            "SELECT place, \"group\", users.id FROM events, users WHERE username = 'bob' ORDER BY place DESC LIMIT 1"
        ).fetchone()
        kept, lost = place % (1 << 40), 99
        frame = b'{"type":"new_record","data":{"author_id":"the signed id"},"seq":1}'
        made.execute("UPDATE events SET frame = ? WHERE place = ?", (frame, place))
        made.execute("UPDATE users SET erased_ms = 1 WHERE id = ?", (author,))
        for name, seq in (("kept", kept), ("lost", lost)):
            row = (name, group, seq, author, "AA==", 1)
            made.execute(
                'INSERT INTO records (record_id, "group", seq, author, record, created_ms) VALUES (?, ?, ?, ?, ?, ?)',
                row,
            )
        made.commit()
    await (await SqliteStore.open(path)).close()

    assert rows_of(path, "records", ["record_id", "author_id"]) == [("kept", "the signed id"), ("lost", None)]


def _insert(connection: Connection, path: Path) -> None:
    """Copy a SQLite file's rows to the same schema in PostgreSQL."""
    found = MetaData()
    found.reflect(connection)
    columns_of = tables_of(path)
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        names = columns_of[table.name]
        connection.execute(table.delete())
        for row in rows_of(path, table.name, names):
            connection.execute(insert(table).values(dict(zip(names, row, strict=True))))
        for column in table.primary_key:
            sequence = connection.scalar(select(func.pg_get_serial_sequence(f'"{table.name}"', column.name)))
            highest = connection.scalar(select(func.max(column)))
            if sequence is not None and highest is not None:
                connection.execute(select(func.setval(sequence, highest)))


@pytest.mark.postgres
@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_version_is_migrated_in_postgresql(tmp_path: Path, postgres_url: str, revision: str):
    """[SCHEMADATA3] A PostgreSQL database of each version keeps every value through the migration, too."""
    from orbital_relay.store.postgres import PostgresStore

    before = _loaded(tmp_path, revision)
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: schema.migrate(sync, to=revision))
        await connection.run_sync(_insert, before)
    await engine.dispose()

    store = await PostgresStore.open(postgres_url)
    try:
        raw = await asyncpg.connect(postgres_url)
        for table, columns in _kept(before).items():
            listed = ", ".join(f'"{column}"' for column in columns)
            rows = [tuple(row) for row in await raw.fetch(f'SELECT {listed} FROM "{table}"')]
            assert sorted(rows, key=repr) == rows_of(before, table, columns), table
        await raw.close()
        await _assert_whole(store, media=_media(before))
    finally:
        await store.close()
