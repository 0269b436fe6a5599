"""
Backup and restore: every row of the database in one file, readable without a database, for either kind.

The file is gzip (RFC 1952) round lines of JSON: a header; for each table its columns, then its rows, one a line, bytes
in base64; at the end the number of rows and the SHA-256 of all lines before. Nothing in it is in the clear that is not
in the database: ciphertext, public keys, hashes of passwords, and the keys with which devices are called.
"""

from __future__ import annotations

import gzip
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Connection, LargeBinary, MetaData, Select, Table, func, inspect, select, text

from orbital_relay.errors import DatabaseRefused
from orbital_relay.model import STOCKS
from orbital_relay.store import schema
from orbital_relay.store import tables as t

FORMAT: Final = 1
"""What this program writes, and the newest that it reads."""

ROWS_AT_ONCE: Final = 500
"""Rows held in memory: some 0.5 MB of events."""

LEVEL: Final = 6
"""gzip's default: ciphertext in base64 shrinks by a quarter, and more effort gains nothing."""

OnProgress = Callable[[int], None]
"""Called with the number of rows that were done since the last call."""


class ArchiveDamaged(Exception):
    """The file is not a whole backup; the text is a sentence for the operator."""


class Header(msgspec.Struct, tag_field="line", tag="orbital-backup"):
    """
    The first line.

    Attributes:
        format: How the file is written.
        schema: The revision of the tables that the rows are of.
        made_at: When, RFC 3339.
        rows: How many there will be, for a progress bar.
    """

    format: int
    schema: str
    made_at: str
    rows: int


class Rows(msgspec.Struct, tag_field="line", tag="table"):
    """The line before a table's rows: its name, its columns, and which of them hold bytes."""

    table: str
    columns: list[str]
    binary: list[str]


class Trailer(msgspec.Struct, tag_field="line", tag="end"):
    """The last line: how many rows there were, and the hash of every line before, line ends included."""

    rows: int
    sha256: str


_encode = msgspec.json.Encoder().encode
_decode_first = msgspec.json.Decoder(Header).decode
_decode_line = msgspec.json.Decoder(Rows | Trailer).decode
_decode_row = msgspec.json.Decoder(list[Any]).decode

# Chapter: writing


def _tables() -> list[Table]:
    """Return the tables that a backup holds: marks are about the database that they are in, mailboxes last minutes."""
    return [table for table in t.metadata.sorted_tables if table not in {t.marks, t.mailboxes}]


def _kept(table: Table) -> Select[Any]:
    """
    Select the rows of a table that a backup holds.

    One-time keys are none of them: what was given out after the backup would be given out again after a restore.
    """
    rows = select(table)
    return rows.where(table.c.kind.not_in(list(STOCKS))) if table is t.pre_keys else rows


def count(conn: Connection) -> int:
    """Return how many rows there are to back up."""
    counted = (select(func.count()).select_from(_kept(table).subquery()) for table in _tables())
    return sum(conn.execute(each).scalar_one() for each in counted)


def write(conn: Connection, file: IO[bytes], *, made_at: str, on_progress: OnProgress) -> int:
    """
    Write every row as of one moment; return how many.

    Args:
        conn: In a transaction that sees one moment.
        file: Where to; written from its beginning, also when the transaction is done again.
        made_at: When, RFC 3339.
        on_progress: Called with the number of rows since the last call.
    """
    file.seek(0)
    file.truncate()
    revision = schema.current(conn)
    if revision != schema.newest():
        raise AssertionError("a store is at the program's schema once it is open")
    done = 0
    seen = sha256()
    # No name and no time in gzip's own header: the same rows make the same file.
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=LEVEL, mtime=0) as zipped:

        def line(content: bytes) -> None:
            seen.update(content + b"\n")
            zipped.write(content + b"\n")

        line(_encode(Header(FORMAT, revision, made_at, count(conn))))
        for table in _tables():
            columns = [str(column.name) for column in table.columns]
            binary = [str(column.name) for column in table.columns if isinstance(column.type, LargeBinary)]
            line(_encode(Rows(str(table.name), columns, binary)))
            bytes_at = [columns.index(name) for name in binary]
            for row in _ordered(conn, table):
                values = list(row)
                for index in bytes_at:
                    if values[index] is not None:
                        values[index] = b64encode(bytes(values[index])).decode()
                line(_encode(values))
                done += 1
                if done % ROWS_AT_ONCE == 0:
                    on_progress(ROWS_AT_ONCE)
        on_progress(done % ROWS_AT_ONCE)
        zipped.write(_encode(Trailer(done, seen.hexdigest())) + b"\n")
    return done


def _ordered(conn: Connection, table: Table) -> Iterator[Any]:
    """Read a table in the order of its key, a bounded number of rows at a time."""
    statement = _kept(table).order_by(*table.primary_key.columns)
    yield from conn.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all, readable by its owner alone, and on the disk when the block has ended."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


# Chapter: reading


class ArchiveReader:
    """
    The lines of a backup, checked as they are read.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header = self._first()

    def _first(self) -> Header:
        with gzip.open(self._path) as lines:
            try:
                header = _decode_first(lines.readline())
            except (OSError, EOFError, zlib.error, msgspec.DecodeError) as exc:
                raise ArchiveDamaged(f"{self._path} is not an Orbital backup.") from exc
        if header.format > FORMAT:
            raise ArchiveDamaged(f"{self._path} was made by a newer Orbital. Restore it with that one.")
        return header

    def lines(self) -> Iterator[Rows | list[Any]]:
        """
        Read tables and their rows.

        Raises:
            ArchiveDamaged: If the file ends early, or is not what was written; what was read until then counts nothing.
        """
        seen, rows = sha256(), 0
        table: Rows | None = None
        bytes_at: list[int] = []
        try:
            with gzip.open(self._path) as lines:
                seen.update(lines.readline())
                for line in lines:
                    if line.startswith(b"["):
                        values = _decode_row(line)
                        if table is None or len(values) != len(table.columns):
                            raise ValueError
                        for index in bytes_at:
                            if values[index] is not None:
                                values[index] = b64decode(values[index], validate=True)
                        rows += 1
                        yield values
                    else:
                        found = _decode_line(line)
                        if isinstance(found, Trailer):
                            if found != Trailer(rows, seen.hexdigest()) or lines.read(1):
                                raise ValueError
                            return
                        table = found
                        bytes_at = [found.columns.index(name) for name in found.binary]
                        yield table
                    seen.update(line)
        except (OSError, EOFError, zlib.error, ValueError, TypeError, msgspec.DecodeError) as exc:
            raise ArchiveDamaged(f"{self._path} is damaged: it was truncated or changed.") from exc
        raise ArchiveDamaged(f"{self._path} is damaged: it ends too early.")


def check(path: Path, *, on_progress: OnProgress) -> Header:
    """
    Read a backup to its end without a database.

    Raises:
        ArchiveDamaged: If it is incomplete.
    """
    reader = ArchiveReader(path)
    waiting = 0
    for line in reader.lines():
        if isinstance(line, list):
            waiting += 1
            if waiting == ROWS_AT_ONCE:
                on_progress(waiting)
                waiting = 0
    on_progress(waiting)
    return reader.header


def restore(conn: Connection, path: Path, *, on_progress: OnProgress) -> int:
    """
    Fill an empty database from a backup, and bring it to this program's schema; return the number of rows.

    The rows go into tables of the revision that they were written from, and take the steps to the newest from there, as
    they would have in the database.

    Args:
        conn: In a transaction that writes; it is rolled back when this raises.
        path: The backup.
        on_progress: Called with the number of rows since the last call.

    Raises:
        ArchiveDamaged: If the backup is incomplete, or of a newer program.
        DatabaseRefused: If the database holds anything, or servers are using it.
    """
    reader = ArchiveReader(path)
    if reader.header.schema not in schema.revisions():
        raise ArchiveDamaged(f"{path} was made by a newer Orbital. Restore it with that one.")
    _refuse_used(conn)
    _empty(conn)
    schema.migrate(conn, to=reader.header.schema)
    found = MetaData()
    found.reflect(conn)
    total = 0
    table: Table | None = None
    columns: list[str] = []
    some: list[dict[str, Any]] = []

    def flush() -> None:
        if some and table is not None:
            conn.execute(table.insert(), some)
            on_progress(len(some))
            some.clear()

    for line in reader.lines():
        if isinstance(line, Rows):
            flush()
            table, columns = found.tables.get(line.table), line.columns
            if table is None or not set(columns) <= set(table.columns.keys()):
                raise ArchiveDamaged(f"{path} has a table that its version of Orbital did not have.")
        else:
            some.append(dict(zip(columns, line, strict=True)))
            total += 1
            if len(some) == ROWS_AT_ONCE:
                flush()
    flush()
    if conn.dialect.name == "postgresql":
        _set_sequences(conn, found)
    schema.migrate(conn)
    return total


def _refuse_used(conn: Connection) -> None:
    for table in (t.users, t.groups):
        if conn.execute(select(table.c.id).limit(1)).first() is not None:
            raise DatabaseRefused(
                "The database holds accounts or groups already, and a restore would mix two histories. "
                "Restore into an empty one: another file or data folder, or a new database."
            )
    refuse_serving(conn)


def refuse_serving(conn: Connection) -> None:
    """
    Refuse a PostgreSQL database that servers use; a SQLite file has a lock for that.

    Raises:
        DatabaseRefused: If a server is connected.
    """
    if conn.dialect.name == "postgresql":
        serving = conn.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name IN ('orbital-read', 'orbital-write') AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
        if serving:
            raise DatabaseRefused("Servers are using this database. Stop them first.")


def _empty(conn: Connection) -> None:
    """Drop the tables, which are empty: those of the backup may be older."""
    t.metadata.drop_all(conn)
    if inspect(conn).has_table("alembic_version"):
        conn.execute(text("DROP TABLE alembic_version"))


def _set_sequences(conn: Connection, found: MetaData) -> None:
    """Let the numbers that PostgreSQL draws continue after the highest that was restored."""
    for table in found.sorted_tables:
        for column in table.primary_key.columns:
            sequence = conn.execute(select(func.pg_get_serial_sequence(f'"{table.name}"', column.name))).scalar()
            if sequence is not None:
                highest = conn.execute(select(func.max(column))).scalar()
                if highest is not None:
                    conn.execute(select(func.setval(sequence, highest)))
