"""`orbital vacuum`: compaction of the SQLite file: release the disk space of deleted rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings, SqliteFile
from orbital_relay.server.adapters import open_store
from orbital_relay.store.vacuum import rewrite


@click.command(
    epilog="""\b
Examples:
  orbital vacuum
  orbital vacuum --data-dir /var/lib/orbital
"""
)
@settings_options("data_dir", "database_url")
def vacuum(**flags: str | None) -> None:
    """
    Shrink the database file: release the space of deleted rows.

    SQLite keeps the space of deleted rows in its file for new ones; this command rewrites the file without it
    (VACUUM). Stop the server first; the disk needs space for a second copy. PostgreSQL does this itself
    (autovacuum).
    """
    settings = load_existing(flags)
    database = settings.database
    if not isinstance(database, SqliteFile):
        raise click.ClickException("PostgreSQL reclaims space by itself (autovacuum); this command is for SQLite.")
    before = database.path.stat().st_size
    run(_vacuum(settings, database.path))
    say(f"{database.path}: {before} bytes before, {database.path.stat().st_size} now.")


async def _vacuum(settings: Settings, path: Path) -> None:
    # Its lock keeps servers away meanwhile.
    store = await open_store(settings)
    try:
        await asyncio.to_thread(rewrite, path)
    finally:
        await store.close()
