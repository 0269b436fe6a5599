"""Pagination: pages bounded in rows and bytes; parameter lists of any length."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, func

from orbital_relay.store import tables as t

PAGE_BYTES: Final = 8 * 1024 * 1024
"""Bytes at which a page of a list or of the log ends before its limit.

A hundred messages of 400 bytes are 70 KB; a thousand of the largest would be 350 MB, and several times that while they
are written out.
"""


def among(conn: Connection, group_ids: Collection[str]) -> ColumnElement[bool]:
    """Match groups by their id; on PostgreSQL by one statement for any number, planned once."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import ARRAY  # noqa: PLC0415 - only where it is spoken

        return t.groups.c.group_id == func.any(bindparam(None, list(group_ids), type_=ARRAY(Text)))
    return t.groups.c.group_id.in_(list(group_ids))


def batched(items: Collection[str], size: int) -> Iterator[list[str]]:
    """Split into lists of at most `size`, the last one shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


# Bytes of an entry beside its texts: names of fields, ids, moments and numbers.
_ENTRY_BYTES: Final = 400

# A name of an outside identity provider may hold control characters, which JSON writes as six bytes (RFC 8259 §7).
NAME_FACTOR: Final = 6

BYTES_OF_A_LETTER: Final = 4
"""Most bytes of a character of a display name, which has no control characters (RFC 3629 §3)."""


def first_fitting(conn: Connection, keys: Select[Any], *, limit: int, offset: int) -> tuple[list[int], bool]:
    """
    Return the row numbers of one page of a list, and whether more rows follow.

    The page ends at its limit or before `PAGE_BYTES`, and has one row at least: only row numbers and lengths are
    read, so a row that does not fit costs no memory.

    Args:
        conn: In a transaction, so that the rows can be read afterwards as they are now.
        keys: Selects row number and length, in the order of the list.
        limit: Most rows.
        offset: Rows to pass over.
    """
    rows = conn.execute(keys.limit(limit + 1).offset(offset)).all()
    numbers: list[int] = []
    size = 0
    for number, length in rows[:limit]:
        size += int(length) + _ENTRY_BYTES
        if numbers and size > PAGE_BYTES:
            break
        numbers.append(int(number))
    return numbers, len(numbers) < len(rows)
