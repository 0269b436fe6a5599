"""
Databases of each version of the schema, as the text of SQL, and how they are made.

`python -m tests.contracts.schemas` writes the file of a version that has none: after a migration is added, and before
it is released. A file is never written again: it stands for the databases that a version left behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from orbital_relay.model import Chunk, FinishMedia, MediaId, MediaLimits
from orbital_relay.store import schema
from orbital_relay.store.sqlite import SqliteStore
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    enter,
    group_of,
    join,
    message,
    new_id,
    put,
    reply,
    retry_key,
    thread,
)

FOLDER: Final = Path(__file__).parent
DROPPED: Final = {("idempotency_keys", "status"): 200}
"""Columns that a later version does not have, with the value that they get."""
_LIMITS: Final = MediaLimits(chunk_bytes=100, file_bytes=100, group_bytes=1000, group_files=9, user_uploads=9)


def dump_of(revision: str) -> Path:
    """Return the file of a version."""
    return FOLDER / f"v{revision}.sql"


def tables_of(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table of a SQLite file, but for Alembic's."""
    with closing(sqlite3.connect(path)) as found:
        names = found.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {
            name: [row[1] for row in found.execute(f'PRAGMA table_info("{name}")')]
            for (name,) in names.fetchall()
            if name != "alembic_version"
        }


def rows_of(path: Path, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    """Return those columns of a table's rows, in the order of their values."""
    listed = ", ".join(f'"{column}"' for column in columns)
    with closing(sqlite3.connect(path)) as found:
        return sorted(found.execute(f'SELECT {listed} FROM "{table}"').fetchall(), key=repr)


async def _fill(path: Path, *, with_media: bool) -> None:
    """Make a database of the newest version with what the first two could hold already."""
    store, stamps = await SqliteStore.open(path), Stamps()
    try:
        ann, bob = await enter(store, "ann"), await enter(store, "bob")
        await store.add_account(
            user_id=new_id(), username="carl", password_hash="$argon2id$x", public_key=b"{}", at_ms=NOW_MS
        )
        made = group_of(ann)
        opened = thread(bob, made.group_id)
        await put(store, stamps, made, join(bob, made.invite_code))
        await put(store, stamps, message(ann, made.group_id, idempotency_key=retry_key()), opened)
        await put(store, stamps, reply(ann, opened.thread_id), message(bob, made.group_id))
        if not with_media:
            return
        chunk = Chunk(
            media_id=MediaId(new_id()),
            thread_id=opened.thread_id,
            index=0,
            total_chunks=1,
            size_bytes=50,
            sha256=hashlib.sha256(b"chunk").digest(),
            declared_bytes=50,
            encrypted_metadata="bQ",
            encryption_iv="aQ",
        )
        place = await store.begin_upload(bob.key, chunk, folder=new_id(), limits=_LIMITS, now_ms=NOW_MS)
        await store.add_chunk(chunk, folder=place.folder, blob=f"{place.folder}/0", limits=_LIMITS, now_ms=NOW_MS)
        finish = FinishMedia(actor=bob, at_ms=NOW_MS, media_id=chunk.media_id, expires_ms=NOW_MS + 1000)
        await put(store, stamps, finish)
    finally:
        await store.close()


def write(revision: str, newest: Path, folder: Path) -> None:
    """Write the file of a version: its own schema, with what the newest database has of its columns."""
    path = folder / f"{revision}.db"
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.begin() as connection:
        schema.migrate(connection, to=revision)
    source = tables_of(newest)
    with closing(sqlite3.connect(path)) as made:
        for table, columns in tables_of(path).items():
            shared = [column for column in columns if column in source[table]]
            added = [(column, DROPPED[table, column]) for column in columns if column not in shared]
            listed = ", ".join(f'"{column}"' for column in [*shared, *(name for name, _ in added)])
            places = ", ".join("?" for _ in columns)
            made.executemany(
                f'INSERT OR REPLACE INTO "{table}" ({listed}) VALUES ({places})',
                [(*row, *(value for _, value in added)) for row in rows_of(newest, table, shared)],
            )
        made.commit()
        dump_of(revision).write_text("\n".join(made.iterdump()) + "\n", "utf-8")


def main() -> None:
    """Write the files that are missing."""
    with tempfile.TemporaryDirectory() as name:
        sources = {with_media: Path(name) / f"newest-{with_media}.db" for with_media in (False, True)}
        for with_media, path in sources.items():
            asyncio.run(_fill(path, with_media=with_media))
        for revision in sorted(schema.revisions()):
            if not dump_of(revision).exists():
                # The first version had no media.
                write(revision, sources[revision != "0001"], Path(name))
