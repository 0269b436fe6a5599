"""The database URL: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec


class SqliteFile(msgspec.Struct, frozen=True, tag=True):
    """
    A database in a file.

    Attributes:
        path: The file; relative to the working folder unless absolute.
    """

    path: Path

    @property
    def shown(self) -> str:
        """The database in words that may be in a log."""
        return f"sqlite:///{self.path}"


class Postgres(msgspec.Struct, frozen=True, tag=True):
    """
    A PostgreSQL server.

    Attributes:
        dsn: `postgresql://…`, perhaps with a password.
    """

    dsn: str

    @property
    def shown(self) -> str:
        """The database in words that may be in a log: without user, password and parameters."""
        return without_credentials(self.dsn)

    def __repr__(self) -> str:
        """Show where it is, not the password."""
        return f"Postgres({self.shown!r})"


DatabaseAddress: TypeAlias = SqliteFile | Postgres


def without_credentials(url: str) -> str:
    """Return an address without user, password and parameters, fit for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
