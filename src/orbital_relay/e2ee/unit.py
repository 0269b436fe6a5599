"""A unit of work: reads through to the store, keeps writes until they are committed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

T = TypeVar("T")
GONE: Final = object()


class Write(msgspec.Struct, frozen=True):
    """One write to a store; a value of None deletes."""

    table: str
    key: str
    value: bytes | None


class Reader(Protocol):
    """What a unit of work reads from."""

    def get(self, table: str, key: str) -> bytes | None:
        """Return a value; None when there is no such key."""

    def scan(self, table: str, prefix: str, limit: int | None = None) -> list[tuple[str, bytes]]:
        """Return keys that begin with `prefix`, and their values, in the order of the keys; at most `limit`."""


class RowTable(Generic[T]):
    """
    The rows of a table, or those of it that are of one type.

    A row is a frozen Struct or plain data, and never changes: units of work share it.
    """

    def __init__(self, name: str, rows: Any) -> None:  # noqa: ANN401 - a union is not a type[T]
        """
        Describe the rows.

        Args:
            name: Of the store's table.
            rows: Their type.
        """
        self.name = name
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(rows)

    def decode(self, data: bytes) -> T:
        """Read a row of the store."""
        return cast("T", self._decoder.decode(data))


ENCODER: Final = msgspec.msgpack.Encoder()


class Unit:
    """Writes on top of a store, or of another unit. Nothing is written to the store before its commit."""

    def __init__(self, below: Reader | Unit) -> None:
        self._below = below
        self._writes: dict[tuple[str, str], Any] = {}

    def get(self, table: RowTable[T], key: str) -> T | None:
        """Return a row; None when there is no such key."""
        written = self._writes.get((table.name, key), self)
        if written is GONE:
            return None
        if written is not self:
            return cast("T", written)
        if isinstance(self._below, Unit):
            return self._below.get(table, key)
        data = self._below.get(table.name, key)
        return None if data is None else table.decode(data)

    def scan(self, table: RowTable[T], prefix: str = "", limit: int | None = None) -> list[tuple[str, T]]:
        """Return keys that begin with `prefix`, and their rows, in the order of the keys; at most `limit`."""
        written = {
            key: value for (name, key), value in self._writes.items() if name == table.name and key.startswith(prefix)
        }
        found = self._read(table, prefix, None if written else limit)
        if not written:
            return found
        rows = {**dict(found), **written}
        return [(key, rows[key]) for key in sorted(rows) if rows[key] is not GONE][:limit]

    def _read(self, table: RowTable[T], prefix: str, limit: int | None) -> list[tuple[str, T]]:
        if isinstance(self._below, Unit):
            return self._below.scan(table, prefix, limit)
        return [(key, table.decode(data)) for key, data in self._below.scan(table.name, prefix, limit)]

    def put(self, table: RowTable[T], key: str, value: T) -> None:
        """Write a row."""
        self._writes[table.name, key] = value

    def delete(self, table: RowTable[T], key: str) -> None:
        """Delete a row, if it is there."""
        self._writes[table.name, key] = GONE

    def written(self, table: RowTable[T]) -> list[T]:
        """Return the rows of a table that this unit writes, in the order of their keys."""
        rows = sorted((key, value) for (name, key), value in self._writes.items() if name == table.name)
        return [value for _, value in rows if value is not GONE]

    def fork(self) -> Unit:
        """Return a unit whose writes count only once they are merged."""
        return Unit(self)

    def merge(self, fork: Unit) -> None:
        """Take over the writes of a fork."""
        self._writes.update(fork._writes)

    def writes(self) -> Sequence[Write]:
        """Return what is to be committed."""
        return [
            Write(name, key, None if value is GONE else ENCODER.encode(value))
            for (name, key), value in self._writes.items()
        ]


def ordered(number: int) -> str:
    """Return a sequence number as 16 digits, so that keys sort as numbers do."""
    return f"{number:016d}"
