"""`orbital restore`: restore a backup into an empty database."""

from __future__ import annotations

from pathlib import Path

import click

from orbital_relay.commands.backup import copied, progress
from orbital_relay.commands.server_options import load, name_database, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.server.adapters import open_store
from orbital_relay.store import archive


@click.command(
    epilog="""\b
Examples:
  orbital restore orbital-2026-11-23.backup
  orbital restore orbital.backup --media orbital-media --data-dir restored
  orbital restore orbital.backup --database-url postgresql://orbital@db/new_database
"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--media",
    "media_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also restore the bytes of media that `orbital backup --media` copied to this folder.",
)
@settings_options("data_dir", "database_url", "media_url")
def restore(file: Path, *, media_folder: Path | None, **flags: str | None) -> None:
    """
    Restore FILE, written by `orbital backup`, into an empty database.

    The file is checked completely first. No server may be using the database. All or nothing is restored, and a
    backup of an older version is migrated to this version's schema. Clients whose position is after the backup get
    `recovered: false` when they reconnect, and read their groups again.
    """
    settings = load(flags)
    name_database(settings)
    try:
        header = archive.ArchiveReader(file).header
        with progress("Checking", header.rows) as advance:
            archive.check(file, on_progress=advance)
        rows = run(_restore(settings, file, header.rows))
    except archive.ArchiveDamaged as exc:
        raise click.ClickException(f"{exc} Nothing was restored.") from exc
    say(f"{settings.database.shown}: {rows} rows of {header.made_at}. Verify them with: orbital check")
    if media_folder is not None:
        say(f"{media_folder}: {run(copied(settings, media_folder, back=True))}")


async def _restore(settings: Settings, file: Path, rows: int) -> int:
    store = await open_store(settings)
    try:
        with progress("Restoring", rows) as advance:
            return await store.restore(file, on_progress=advance)
    finally:
        await store.close()
