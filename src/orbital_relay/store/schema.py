"""Schema migration at start, or the refusal of an unknown schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from orbital_relay.errors import DatabaseRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def current(connection: Connection) -> str | None:
    """Return the revision that the database stands at, or None when it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def newest() -> str:
    """Return the revision that this program writes."""
    return max(revisions())


def revisions() -> set[str]:
    """Return every revision that this program knows: the files of the migrations are named by them."""
    return {path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py")}


def migrate(connection: Connection, *, to: str | None = None) -> tuple[str | None, str]:
    """
    Bring the database to this program's schema, or to an older one on the way there, in the connection's transaction.

    Args:
        connection: It is in a transaction, which the caller commits.
        to: The revision; None for the newest.

    Returns:
        The revision before and after.

    Raises:
        DatabaseRefused: If the database was written by a newer program.
    """
    before, to = current(connection), to or newest()
    if before is not None and before not in revisions():
        raise DatabaseRefused(
            f"The database is at version {before}, and this Orbital knows versions up to {newest()}: "
            "a newer Orbital has written it. Install that one, or restore a backup made before the upgrade."
        )
    if before != to:
        _upgrade(connection, to)
    return before, to


def _upgrade(connection: Connection, to: str) -> None:
    # Most starts migrate nothing, and it takes longer to load than the rest of the store.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
