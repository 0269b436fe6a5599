"""`orbital vacuum`: give the disk space of deleted rows back to the system."""

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
    Shrink the database's file to what is in it.

    A file of SQLite keeps the room of what was deleted, and uses it for new rows; this writes the file again without
    it. The server has to be stopped, and the disk needs room for a second file meanwhile. PostgreSQL does the same work
    by itself (autovacuum).
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
