"""Classification of PostgreSQL errors: unreachable, serialization failure (retry), or a bug."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.exc import DBAPIError

# SQLSTATE classes (PostgreSQL, appendix A) that mean "not now": connection, resources, operator, system, read-only.
NOT_NOW: Final = ("08", "53", "57", "58", "25006", "55P03")
# InternalClientError is the driver's word for having lost track of a connection, which it does when one ends just then.
DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
RETRYABLE: Final = ("40001", "40P01", "23505")
"""Serialization failure, deadlock, and a row that another server made first: done again, the transaction sees it."""


def cause_of(exc: BaseException) -> BaseException:
    """Return the driver's own error behind SQLAlchemy's."""
    if isinstance(exc, DBAPIError) and exc.orig is not None:
        return exc.orig.__cause__ or exc.orig
    return exc


def sqlstate_of(exc: BaseException) -> str:
    """Return the SQLSTATE of an error of the database; empty for another error."""
    return str(getattr(exc, "sqlstate", None) or "")


def is_away(exc: BaseException) -> bool:
    """Return whether an error means that the database cannot be used now, rather than that it was misused."""
    if isinstance(exc, ValueError):
        # asyncpg's word for an address or an argument that makes no sense.
        return False
    lost = isinstance(exc, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)
    return lost or sqlstate_of(exc).startswith(NOT_NOW)


def is_retryable(exc: BaseException) -> bool:
    """Return whether the same transaction may succeed when it is tried again."""
    return sqlstate_of(cause_of(exc)) in RETRYABLE


def was_stale(exc: BaseException) -> bool:
    """Return whether a pooled connection turned out to be dead: a new one may do better."""
    return isinstance(exc, DBAPIError) and exc.connection_invalidated


def words_of(exc: BaseException) -> str:
    """Return the first line of an error's message, without its period."""
    return (str(exc) or type(exc).__name__).partition("\n")[0].rstrip(".")


def without_credentials(dsn: str) -> str:
    """Return the address of a database without user and password, for messages."""
    parts = urlsplit(dsn)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
