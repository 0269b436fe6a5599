"""Bringing a database to the schema of this program, or refusing it with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orbital_relay.errors import DatabaseRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current(connection: Connection) -> str | None:
    """Return the revision that the database stands at, or None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Return the revision that this program writes."""
    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    head = script.get_current_head()
    if head is None:
        raise AssertionError("the package carries its migrations")
    return head


def revisions() -> set[str]:
    """Return every revision that this program knows."""
    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    return {step.revision for step in script.walk_revisions()}


def migrate(connection: Connection, *, to: str = "head") -> tuple[str | None, str]:
    """
    Bring the database to this program's schema, or to an older one on the way there, in the connection's transaction.

    Returns:
        The revision before and after.

    Raises:
        DatabaseRefused: If the database was written by a newer program.
    """
    config = _config(connection)
    before = current(connection)
    if before is not None and before not in revisions():
        raise DatabaseRefused(
            f"The database is at version {before}, and this Orbital knows versions up to {newest()}: "
            "a newer Orbital has written it. Install that one, or restore a backup made before the upgrade."
        )
    command.upgrade(config, to)
    return before, newest()
