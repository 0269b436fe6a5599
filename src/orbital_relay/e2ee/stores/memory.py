"""A store in memory: for tests, and for a device that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from orbital_relay.e2ee.ports import TABLES, DeviceStore
from orbital_relay.e2ee.unit import Write

T = TypeVar("T")
Snapshot = Mapping[str, Mapping[str, bytes]]


class MemoryStore:
    """
    Tables that live as long as the object.

    It works in the event loop, one piece after the other; it never waits.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        """
        Begin empty, or with an old copy.

        Args:
            snapshot: Of `snapshot()`.
        """
        given = snapshot or {}
        self._tables: dict[str, dict[str, bytes]] = {table: dict(given.get(table, {})) for table in TABLES}

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work`; nothing else runs in between, since it never awaits."""
        return work()

    def get(self, table: str, key: str) -> bytes | None:
        """Return a value; None when there is no such key."""
        return self._tables[table].get(key)

    def scan(self, table: str, prefix: str, limit: int | None = None) -> list[tuple[str, bytes]]:
        """Return keys that begin with `prefix`, and their values, in the order of the keys; at most `limit`."""
        rows = self._tables[table]
        return [(key, rows[key]) for key in sorted(key for key in rows if key.startswith(prefix))[:limit]]

    def commit(self, writes: Sequence[Write], *, durable: bool) -> None:  # noqa: ARG002 - nothing here is durable
        """Write all."""
        for write in writes:
            if write.value is None:
                self._tables[write.table].pop(write.key, None)
            else:
                self._tables[write.table][write.key] = write.value

    async def close(self) -> None:
        """Keep everything: the object may be used again."""

    def snapshot(self) -> Snapshot:
        """Return a copy of everything."""
        return {table: dict(rows) for table, rows in self._tables.items()}


_: type[DeviceStore] = MemoryStore
