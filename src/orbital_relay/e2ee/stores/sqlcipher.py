"""The key store of a device in a SQLCipher 4 file: everything is encrypted, private keys included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike, fspath
from types import TracebackType
from typing import Final, Self, TypeVar

import sqlcipher3

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.ports import TABLES, DeviceStore
from orbital_relay.e2ee.unit import Write

T = TypeVar("T")

KEY_BYTES: Final = 32
LAST: Final = "\U0010ffff"
"""The last code point that there is: no key holds it."""


class SqlcipherStore:
    """
    One SQLCipher 4 file: a raw key, WAL, `synchronous=NORMAL` for reading and FULL for sending, `secure_delete`.

    The file belongs to one process at a time. All work runs in one thread of the store's own, one piece after the
    other. Asynchronous context manager.
    """

    def __init__(self, path: str | PathLike[str], key: bytes) -> None:
        """
        Open or create an encrypted store.

        Args:
            path: The file. Its folder must exist.
            key: 32 random bytes that the operating system's keychain holds; the file holds no way to it.

        Raises:
            E2eeError: `locked` when the key is not the file's, it is not a store, or another process has it.
            ValueError: If the key does not have 32 bytes.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a store's key has {KEY_BYTES} bytes, not {len(key)}")
        self._database = sqlcipher3.connect(fspath(path), isolation_level=None, check_same_thread=False, timeout=0)
        try:
            self._begin(key)
        except (sqlcipher3.DatabaseError, MemoryError) as exc:
            self._database.close()
            raise E2eeError(
                "locked",
                f"the store {fspath(path)} does not open: another key, not a store, or in use by another process",
            ) from exc
        self._full = False
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="orbital-e2ee")

    def _begin(self, key: bytes) -> None:
        run = self._database.execute
        run(f"PRAGMA key = \"x'{key.hex()}'\"")
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA secure_delete = ON")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        for table in TABLES:
            run(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT")
        run("COMMIT")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the store's thread; to its end, also when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def get(self, table: str, key: str) -> bytes | None:
        """Return a value; None when there is no such key."""
        row = self._database.execute(f"SELECT value FROM {table} WHERE key = ?", (key,)).fetchone()  # noqa: S608 - a name of TABLES
        return None if row is None else bytes(row[0])

    def scan(self, table: str, prefix: str, limit: int | None = None) -> list[tuple[str, bytes]]:
        """Return keys that begin with `prefix`, and their values, in the order of the keys; at most `limit`."""
        rows = self._database.execute(
            f"SELECT key, value FROM {table} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",  # noqa: S608 - a name of TABLES
            (prefix, prefix + LAST, -1 if limit is None else limit),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def commit(self, writes: Sequence[Write], *, durable: bool) -> None:
        """Write all or nothing; with `durable` it is on the disk before this returns."""
        run = self._database.execute
        if durable is not self._full:
            run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable
        run("BEGIN IMMEDIATE")
        try:
            for write in writes:
                if write.value is None:
                    run(f"DELETE FROM {write.table} WHERE key = ?", (write.key,))  # noqa: S608 - a name of TABLES
                else:
                    run(
                        f"INSERT INTO {write.table} (key, value) VALUES (?, ?) "  # noqa: S608 - a name of TABLES
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        (write.key, write.value),
                    )
            run("COMMIT")
        except BaseException:
            run("ROLLBACK")
            raise

    async def close(self) -> None:
        """Close the file once the work that runs has ended; a second time does nothing."""
        if not self._closed:
            self._closed = True
            await self.run(self._database.close)
            self._thread.shutdown()


_: type[DeviceStore] = SqlcipherStore
